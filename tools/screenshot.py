"""Take the screenshots in docs/ with an installed Chromium.

    python -m tools.screenshot                          # reports/verdict.html to docs/report.png
    python -m tools.screenshot --browser google-chrome
    python -m tools.screenshot --page ADDRESS --to docs/mlflow.png --size 2300 520

The last command takes the address that `tools.mlflow_ui` prints.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from stages.core.entrypoint import make_parser, tool_main
from stages.core.errors import UserError

SIZE = (1000, 900)  # the first screen on a laptop, without the browser's frame
WAIT = 25_000  # milliseconds of virtual time that a page has to load
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@tool_main("screenshot")
def main() -> None:
    """Find a browser and take the screenshot."""
    parser = make_parser("tools.screenshot", __doc__)
    parser.add_argument(
        "--browser", help=f"browser to run (default: the first found of {', '.join(BROWSERS)})"
    )
    parser.add_argument("--page", default="reports/verdict.html", help="a file or a URL")
    parser.add_argument(
        "--size", nargs=2, type=int, default=SIZE, help="width and height in pixels"
    )
    parser.add_argument("--to", type=Path, default=Path("docs/report.png"))
    arguments = parser.parse_args()
    program = next(
        filter(None, map(shutil.which, [arguments.browser] if arguments.browser else BROWSERS)),
        None,
    )
    if not program:
        raise UserError("no browser found: install Chromium or name a browser with --browser")
    page = arguments.page if "://" in arguments.page else Path(arguments.page).resolve().as_uri()
    if page.startswith("file:") and not Path(arguments.page).exists():
        raise UserError(f"{arguments.page} does not exist: run `dvc repro` first")
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        ]
        flags += ["--disable-background-networking", f"--user-data-dir={profile}"]
        flags += [
            f"--window-size={arguments.size[0]},{arguments.size[1]}",
            f"--virtual-time-budget={WAIT}",
        ]
        flags += [f"--screenshot={arguments.to.resolve()}", page]
        subprocess.run([program, *flags], check=True, timeout=120, capture_output=True)


if __name__ == "__main__":
    main()
