import subprocess
import sys

import pytest

from common import gcs_reads

BUFFER, BYTES, CACHE = (
    "GCS_READ_CACHE_BLOCK_SIZE_MB",
    "GCS_READAHEAD_BUFFER_SIZE_BYTES",
    "GCS_READ_CACHE_MAX_SIZE_MB",
)
MIB = 1 << 20
DATA_BYTES = 3072 * MIB


@pytest.mark.parametrize(
    ("of_user", "all_in_all"),
    [
        ({}, {BYTES: "2048"}),
        ({"HOME": "/"}, {BYTES: "2048"}),
        ({BUFFER: "0"}, {BUFFER: "0"}),
        ({BUFFER: "16", "HOME": "/"}, {BUFFER: "16"}),
        ({BYTES: "4096"}, {BYTES: "4096"}),
        ({CACHE: "512"}, {CACHE: "512"}),
    ],
)
def test_what_a_user_has_set_stays(of_user, all_in_all):
    assert gcs_reads.gcs_environment(of_user) == all_in_all


@pytest.mark.parametrize("package", ["input_pipeline", "train", "preflight"])
def test_a_package_sets_it_before_it_imports_tensorflow(package):
    code = f"import os, {package}; print(os.environ[{BYTES!r}])"
    assert run(code) == "2048\n"
    code = f"import os, sys; sys.modules['tensorflow'] = os; {code}"
    assert run(code) == f"KeyError: {BYTES!r}\n"


def test_a_command_sets_it(monkeypatch):
    code = "import os; from input_pipeline import serve\ntry:\n serve.main(['--help'])"
    code += f"\nexcept SystemExit: print(os.environ[{BYTES!r}])"
    assert run(code).endswith("\n2048\n")


def run(code: str) -> str:
    """What a process prints, or its error."""
    found = subprocess.run(
        [sys.executable, "-c", code], env={}, capture_output=True, text=True
    )
    return found.stdout or found.stderr.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({BUFFER: "0"}, None),
        ({BUFFER: "2"}, None),
        ({BUFFER: "64"}, (f"{BUFFER}=64", 32.0)),
        ({BYTES: "4194304"}, (f"{BYTES}=4194304", 2.0)),
        ({BYTES: "4096"}, None),
        ({BYTES: "4096", BUFFER: "8"}, (f"{BUFFER}=8", 4.0)),
        ({}, (f"TensorFlow was loaded without {BYTES}", 32.0)),
        ({CACHE: "512"}, (f"TensorFlow was loaded without {BYTES}", 32.0)),
        ({CACHE: "3072"}, None),
        ({BUFFER: "no number"}, (f"{BUFFER}=no number", 32.0)),
    ],
)
def test_what_costs_is_said_once(environment, why, monkeypatch, capsys):
    for name in (BUFFER, BYTES, CACHE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gcs_reads, "_said", set())

    def fetched(buffer: int) -> int:  # in chunks of 2 MiB
        return DATA_BYTES * max(1, buffer // (2 * MIB))

    gcs_reads.warn_of_cost("/a/disk", DATA_BYTES, fetched)
    for _ in range(2):
        gcs_reads.warn_of_cost("gs://bucket/data", DATA_BYTES, fetched)
    said = ""
    if why:
        said = (
            f"warning: {why[0]}: gs://bucket/data is fetched {why[1]} times over in an "
            f"epoch; set {BYTES}=2048 before TensorFlow is loaded\n"
        )
    assert capsys.readouterr().err == said
