"""python train/main.py, from wherever it was started."""

import os
import subprocess
import sys

import pytest

from common import project
from common.project import ROOT
from common.version import NAME, VERSION


@pytest.mark.parametrize(
    "path", ["train/main.py", "input_pipeline/prepare.py", "tpu_compiler/__main__.py"]
)
def test_a_command_by_its_file(path, tmp_path):
    """As in the environment of make setup, which finds the packages beside it."""
    done = subprocess.run(
        [sys.executable, f"{ROOT}/{path}", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/proc/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NAME} {VERSION}\n", "")


def test_no_module_is_looked_for_in_a_room(monkeypatch, tmp_path):
    rooms = [str(ROOT / "train"), str(ROOT / "train/exports")]
    for first in rooms:
        monkeypatch.setattr(sys, "path", [first, str(ROOT)])
        project.leave_rooms()
        assert sys.path == [str(ROOT)]
    for first in (str(ROOT), str(ROOT / "docs"), str(tmp_path), ""):
        monkeypatch.setattr(sys, "path", [first, str(ROOT)])
        monkeypatch.chdir(ROOT)
        project.leave_rooms()
        assert sys.path == [first, str(ROOT)]


_EVALUATES = """
import sys
from train import main
status = main.main(["--mode=eval", "--model_dir={}"])
print(status, "keras" in sys.modules, "matplotlib" in sys.modules)
"""


@pytest.mark.slow
def test_a_home_that_cannot_be_written_makes_no_noise(tmp_path):
    """Nor is what draws imported where nothing is drawn."""
    done = subprocess.run(
        [sys.executable, "-c", _EVALUATES.format(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "HOME": "/proc/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2 True False\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path} holds no operative_config.gin")
