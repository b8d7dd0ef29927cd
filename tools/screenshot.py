"""Take the picture of the report that the README shows, with a Chromium that is installed already.

python -m tools.screenshot                       # reports/verdict.html to docs/report.png
python -m tools.screenshot --browser google-chrome
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1000, 900  # the first screen of a laptop, without the browser's frame
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    """Find the browser and take the picture."""
    parser = argparse.ArgumentParser("python -m tools.screenshot", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--browser", help=f"its program; the first of {', '.join(BROWSERS)} by default")
    parser.add_argument("--page", type=Path, default=Path("reports/verdict.html"))
    parser.add_argument("--to", type=Path, default=Path("docs/report.png"))
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, [arguments.browser] if arguments.browser else BROWSERS)), None)
    if not program:
        sys.exit("screenshot: no browser was found; install Chromium, or name one with --browser")
    if not arguments.page.exists():
        sys.exit(f"screenshot: {arguments.page} is not there: run `dvc repro` first")
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", f"--user-data-dir={profile}"]
        flags += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={arguments.to.resolve()}"]
        command = [program, *flags, arguments.page.resolve().as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)


if __name__ == "__main__":
    main()
