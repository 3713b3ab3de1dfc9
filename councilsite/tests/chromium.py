"""Finds the Chromium of the browser tests, or gets one: `python -m councilsite.tests.chromium`."""

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOW_TO_GET_ONE = (
    "install Debian's or Ubuntu's `chromium` package, or run `.venv/bin/playwright install chromium`, "
    "or set CHROMIUM to the path of one"
)


def find() -> str | None:
    """The path of a Chromium or Chrome: CHROMIUM, the system's, or Playwright's own."""
    if told := os.environ.get("CHROMIUM"):
        return told if Path(told).exists() else None
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or "~/.cache/ms-playwright"
    found = sorted(glob.glob(f"{Path(cache).expanduser()}/chromium-*/chrome-linux*/chrome"))
    found += sorted(glob.glob(f"{Path.home()}/Library/Caches/ms-playwright/chromium-*/*/*.app/Contents/MacOS/*"))
    return found[-1] if found else None


def get() -> None:
    """Install one with what this machine has. Whether it worked, `find` tells."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
        if all(subprocess.run(command, env=environment, stdout=sys.stderr).returncode == 0 for command in commands):
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], stdout=sys.stderr)


if __name__ == "__main__" and not find():
    print("No Chromium for the browser tests: getting one …", file=sys.stderr)
    get()
    if not find():
        print(f"That failed. The browser tests will not run; {HOW_TO_GET_ONE}.", file=sys.stderr)
