"""The fused ops under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess
import sys

import pytest

from input_pipeline.fused import build, library

SECONDS = 60


def _runtime(compiler: list[str], name: str) -> str:
    command = [*compiler, f"-print-file-name={name}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return found.stdout.strip()


@pytest.mark.slow
def test_nothing_is_read_or_written_outside(ops, tmp_path, monkeypatch):
    compiler = build._compiler()
    # The latter, or an exception of another library finds no handler.
    preloaded = [_runtime(compiler, name) for name in ("libasan.so", "libstdc++.so")]
    if not all(map(os.path.isabs, preloaded)):
        pytest.skip(f"{compiler} has no AddressSanitizer")
    flags = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, *flags))
    built = tmp_path / "fused.so"
    build._compile(compiler, built)
    module = "tests.input_pipeline.fused.fuzzing"
    ran = subprocess.run(
        [sys.executable, "-m", module, str(built), str(SECONDS)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(preloaded),
            # Python and TensorFlow give much back when they end, or never.
            "ASAN_OPTIONS": "detect_leaks=0",
        },
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "ERROR: AddressSanitizer" not in ran.stderr
    calls, images = map(int, ran.stdout.split())
    assert calls > 1000
    assert calls / 4 < images < calls  # some are refused
