import json
import os
import sys
import time
from pathlib import Path

import pytest

import tpu_compiler

ROOT = Path(tpu_compiler.__file__).parent.parent
FAKE = Path(__file__).with_name("fake_worker.py")


class Fake:
    """An environment without a compiler, and what its processes were asked."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log"
        self.cache = folder / "cache"
        self.python = folder / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "{self.log}"\n'
        )
        self.python.chmod(0o755)
        self.set_version("1.0")

    def set_version(self, version):
        packages = self.folder / "lib/python3.11/site-packages"
        for name in ("jax", "jaxlib", "libtpu"):
            info = packages / f"{name}.dist-info"
            info.mkdir(parents=True, exist_ok=True)
            (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")

    @property
    def requests(self):
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def is_alive(pid):
    """Whether a process runs still; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition, seconds=10.0):
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def compile(fake, text, topology="v3", replicas=1, *, seconds=20.0):
    """Compiles for a fake environment, with its cache."""
    return tpu_compiler.compile(
        text.encode(),
        topology,
        replicas,
        timeout_seconds=seconds,
        cache_dir=fake.cache,
        name="step",
    )


def command(fake, path, *arguments):
    """The command line that does so."""
    return [
        *(sys.executable, "-S", "-m", "tpu_compiler", str(path), "--topology=v3"),
        *(f"--cache_dir={fake.cache}", *arguments),
    ]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    environment = Fake(tmp_path / "fake")
    monkeypatch.setenv("TPU_COMPILER_PYTHON", str(environment.python))
    assert os.access(environment.python, os.X_OK)
    return environment
