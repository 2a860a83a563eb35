"""launch/setup.sh, in a folder that holds no more than it needs."""

import os
import re
import shutil
import subprocess

import pytest

from common.project import ROOT


@pytest.fixture
def checkout(tmp_path):
    """A folder with the script and a lock of one package."""
    for name in ("launch", "requirements"):
        (tmp_path / name).mkdir()
    for name in ("launch/setup.sh", "requirements/setup.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    lock = (ROOT / "requirements/core.txt").read_text()
    found = re.search(r"^absl-py==.*(?:\n .*)*", lock, re.M)
    assert found
    (tmp_path / "requirements/core.txt").write_text(found[0] + "\n")
    return tmp_path


def run(checkout, accelerator="cpu", **environment):
    return subprocess.run(
        ["bash", "launch/setup.sh"],
        cwd=checkout,
        env={**os.environ, "ACCELERATOR": accelerator, **environment},
        capture_output=True,
        text=True,
    )


def test_it_is_for_these_accelerators(checkout):
    ended = run(checkout, "npu")
    assert ended.returncode == 2
    assert ended.stderr == "error: ACCELERATOR is tpu, gpu or cpu, not 'npu'\n"


def test_a_python_without_pip(checkout):
    (checkout / "bin").mkdir()
    (checkout / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    (checkout / "bin/python3").chmod(0o755)
    ended = run(checkout, PATH=f"{checkout}/bin:{os.environ['PATH']}")
    assert ended.returncode == 2
    assert "bin/python3 has no pip: install python3-pip\n" in ended.stderr


@pytest.mark.slow  # it asks the package index
def test_it_installs_the_lock_once_and_by_its_hashes(checkout):
    ended = run(checkout)
    assert (ended.returncode, ended.stdout.split(" with ")[0]) == (
        0,
        "Installing requirements/core.txt",
    ), ended.stderr
    python = checkout / ".venv/bin/python"
    subprocess.run([python, "-c", "import absl"], check=True)

    again = run(checkout)
    assert (again.returncode, again.stdout, again.stderr) == (
        0,
        "requirements/core.txt is installed in .venv\n",
        "",
    )

    lock = checkout / "requirements/core.txt"
    lock.write_text(re.sub("sha256:[0-9a-f]{8}", "sha256:00000000", lock.read_text()))
    wrong = run(checkout)
    assert wrong.returncode != 0
    assert "hash" in wrong.stderr.lower()
    assert run(checkout).returncode != 0
