"""When preflight says what, with a program that stands in for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tpu import preflight
from tpu_compiler import process

# What is kept in the caches of before, it knows the second time.
SAYS = """
import os, pathlib, sys
kept = pathlib.Path(os.environ["XDG_CACHE_HOME"], "kept")
print("tiny, 32 px", flush=True)
print("train step: compiles and fits", flush=True)
print("as known" if kept.exists() and {forgets} else "the end")
kept.touch()
sys.exit({status})
"""


@pytest.fixture
def stands_in(monkeypatch):
    """Function: exit status and whether it says something else -> the command."""
    compiler = process.Environment(Path("python"), {"libtpu": "1.0"})
    monkeypatch.setattr(preflight, "environment", lambda: compiler)

    def command(status=0, forgets=False):
        says = SAYS.format(status=status, forgets=forgets)
        found = ("python", "-c", says)
        monkeypatch.setattr(preflight, "COMMAND", found)
        return found

    return command


def report_of(capsys) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("status", [0, 1])
def test_both_times_are_told(stands_in, capsys, status):
    stands_in(status)
    assert preflight.main([]) == status
    report = report_of(capsys)
    assert report["output"] == [
        "tiny, 32 px",
        "train step: compiles and fits",
        "the end",
    ]
    for seconds in (report["seconds"], report["seconds_again"]):
        assert 0 <= seconds["first_verdict"] <= seconds["all"]


def test_what_is_kept_may_change_nothing(stands_in, capsys):
    stands_in(forgets=True)
    assert preflight.main([]) == 2
    assert "preflight says something else the second time" in capsys.readouterr().err


def test_no_answer(stands_in, capsys):
    stands_in(status=2)
    assert preflight.main([]) == 2
    assert "preflight ended with 2" in capsys.readouterr().err


def test_of_the_users_own_caches_nobody_knows_what_seconds_mean(
    stands_in, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said, status = preflight.said_by(stands_in())
    assert status == 0
    assert "seconds" not in said
    assert (tmp_path / "kept").exists()
