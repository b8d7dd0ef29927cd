"""Take the pictures in docs/, with a Chromium that is installed already.

Commands:
    python -m tools.screenshot                       # reports/verdict.html to docs/report.png
    python -m tools.screenshot --browser google-chrome
    python -m tools.screenshot --page ADDRESS --to docs/mlflow.png --size 2300 520   # what tools.mlflow_ui prints
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = (1000, 900)  # the first screen of a laptop, without the frame of the browser
WAIT = 25_000  # milliseconds of its own clock that a page has to load
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    """Find the browser and take the picture."""
    parser = argparse.ArgumentParser(
        "python -m tools.screenshot", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--browser", help=f"its program; the first of {', '.join(BROWSERS)} by default"
    )
    parser.add_argument(
        "--page", default="reports/verdict.html", help="a file, or an address of this machine"
    )
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
        sys.exit("screenshot: no browser was found; install Chromium, or name one with --browser")
    page = arguments.page if "://" in arguments.page else Path(arguments.page).resolve().as_uri()
    if page.startswith("file:") and not Path(arguments.page).exists():
        sys.exit(f"screenshot: {arguments.page} is not there: run `dvc repro` first")
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
