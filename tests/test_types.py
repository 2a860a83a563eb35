"""Types, on a core that the other tests leave: before them they would take a minute."""

import subprocess
import sys
from pathlib import Path

from common.project import ROOT


def test_types():
    pyright = Path(sys.executable).parent / "pyright"
    done = subprocess.run([pyright], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
