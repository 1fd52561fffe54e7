"""Find a Chromium or Chrome for the tests that look at the book in a browser, or install one where that is allowed.

    python tools/browser.py      print its path; as root on Debian or Ubuntu, install Chromium first where there is none

Exits with 1 where there is none and CI is set. Elsewhere the tests that need one skip and say so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_APPLICATIONS = ("Chromium.app/Contents/MacOS/Chromium", "Google Chrome.app/Contents/MacOS/Google Chrome")
MISSING = "no Chromium or Chrome is installed; install one, or set HWR_BROWSER to its path"


def find() -> str | None:
    """Return the path of a browser: $HWR_BROWSER, else the first that is installed, else None."""
    if given := os.environ.get("HWR_BROWSER"):
        return given
    on_path = filter(None, map(shutil.which, NAMES))
    on_mac = (
        str(folder / application)
        for folder in (Path("/Applications"), Path.home() / "Applications")
        for application in MAC_APPLICATIONS
        if (folder / application).is_file()
    )
    return next(on_path, None) or next(on_mac, None)


def install() -> None:
    """Install Chromium by apt where this user may; a failure is not fatal, since its tests can skip."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("Installing Chromium for the browser tests ...", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"apt-get {command[0]}: {done.stderr.strip()}", file=sys.stderr)


def main() -> int:
    """Find or install; return 1 where there is no browser and CI requires one."""
    if not find():
        install()
    browser = find()
    print(f"Browser tests use {browser}" if browser else f"Browser tests are skipped: {MISSING}.")
    return 1 if not browser and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
