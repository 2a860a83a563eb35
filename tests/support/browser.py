"""A page in a real browser without a network: what it has become, and what it said."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--force-device-scale-factor=1",
)
_CONSOLE = re.compile(
    r'CONSOLE[:(]\d+\)?\] "(?P<text>.*?)", source: (?P<source>\S*) \(', re.DOTALL
)
_SECONDS = 120


def require_chromium() -> str:
    """Return Chromium's path; skip the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no Chromium; apt-get install chromium")


def _without_network() -> list[str]:
    """Return what starts a command without a network; skip where that may not be."""
    for start in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and not subprocess.call(
            [*start, "true"], stderr=subprocess.DEVNULL
        ):
            return start
    pytest.skip("no process may be started without a network here (unshare -n)")


@dataclasses.dataclass(frozen=True)
class Opened:
    """A page that was opened.

    Attributes:
      dom: its elements once its scripts have run, as HTML.
      console: what its scripts, or the browser, wrote to the console.
    """

    dom: str
    console: list[str]


def open_page(page: Path, profile: Path, *, seconds: int = 20) -> Opened:
    """Open a page, and return it once its scripts have come to rest.

    Args:
      page: a file.
      profile: an empty folder for the browser's own files.
      seconds: of the page's own clock, which runs ahead while nothing happens.
    """
    budget = f"--virtual-time-budget={1000 * seconds}"
    done = _run(page, profile, "--dump-dom", budget)
    return Opened(
        done.stdout,
        [
            line["text"]
            for line in _CONSOLE.finditer(done.stderr)
            # Not what the browser's own pages say.
            if not line["source"].startswith("chrome:")
        ],
    )


def screenshot(
    page: Path, profile: Path, png: Path, *, width: int = 1200, height: int = 800
) -> None:
    """Draw the upper part of a page, of so many pixels."""
    size = f"--window-size={width},{height}"
    budget = "--virtual-time-budget=20000"
    _run(page, profile, f"--screenshot={png}", size, budget)


def _run(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    profile.mkdir(parents=True, exist_ok=True)
    command = [*_without_network(), require_chromium(), *_FLAGS, *flags]
    command += [f"--user-data-dir={profile}", page.resolve().as_uri()]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=True
    )
