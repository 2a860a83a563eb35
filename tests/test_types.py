"""Types, on a core that the other tests leave: before them they would take a minute."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from common.project import ROOT

_SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
TESTS = "tests"


@pytest.mark.parametrize(
    "rooms",
    [
        pytest.param(
            [room for room in _SETTINGS["include"] if room != TESTS], id="code"
        ),
        pytest.param([TESTS], id="tests", marks=pytest.mark.long),
    ],
)
def test_types(rooms):
    """Settings that name no files are taken beside those that are named here."""
    pyright = Path(sys.executable).parent / "pyright"
    done = subprocess.run([pyright, *rooms], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
