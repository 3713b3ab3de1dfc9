"""Finds the Chromium of the browser tests, or gets one: `python -m councilsite.tests.chromium`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
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
    found = sorted(Path(cache).expanduser().glob("chromium-*/chrome-linux*/chrome"))
    found += sorted(Path("~/Library/Caches/ms-playwright").expanduser().glob("chromium-*/*/*.app/Contents/MacOS/*"))
    return str(found[-1]) if found else None


def must_be_there(environ: Mapping[str, str]) -> bool:
    """Whether tests fail that have none: under CI, whatever it says to be so."""
    return environ.get("CI", "").lower() not in {"", "0", "false"}


def get() -> None:
    """Install one with what this machine has. Whether it worked, `find` tells."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
        if all(_run(command, environment) for command in commands):
            return
    _run([sys.executable, "-m", "playwright", "install", "chromium"], dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode == 0


if __name__ == "__main__" and not find():
    sys.stderr.write("No Chromium for the browser tests: getting one …\n")
    get()
    if not find():
        sys.stderr.write(f"That failed. The browser tests will not run; {HOW_TO_GET_ONE}.\n")
