"""What is remembered of the seconds that compilations took."""

import json
import os

import pytest

from tpu_compiler import Compiler
from tpu_compiler import history as module
from tpu_compiler.history import History


def test_the_last_time_counts(tmp_path):
    history = History(tmp_path)
    assert history.seconds("a step") is None
    history.note("a step", 12.34)
    history.note("another", 5)
    history.note("a step", 3)
    again = History(tmp_path)
    assert (again.seconds("a step"), again.seconds("another")) == (3, 5)


def test_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    history = History(tmp_path)
    for kind in ("a", "b", "a", "c"):
        history.note(kind, 1)
    assert json.loads((tmp_path / "seconds.json").read_text()) == {"a": 1, "c": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[1]",
        b'{"a": ',
        b'{"a": "1", "b": null}',
        b'{"a": NaN}',
        b'{"a": -1}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_history_is_none(tmp_path, text):
    (tmp_path / "seconds.json").write_bytes(text)
    history = History(tmp_path)
    assert history.seconds("a") is None
    history.note("a", 2)
    assert history.seconds("a") == 2


def test_a_folder_that_takes_nothing_costs_nothing(tmp_path):
    missing = History(tmp_path / "missing")
    missing.note("a", 1)
    assert missing.seconds("a") is None
    os.mkfifo(tmp_path / "seconds.json")  # to read it would hang
    pipe = History(tmp_path)
    pipe.note("a", 1)
    assert pipe.seconds("a") is None


def test_what_was_compiled_is_remembered_and_what_was_known_is_not(fake):
    for seconds in (1.5, None):  # the fake's; the second time it is in the cache
        with Compiler(cache_dir=fake.cache) as compiler:
            asked = compiler.compile(
                b"compile", "v3", timeout_seconds=20, kind="a step"
            )
            assert asked.result().compiled
            assert compiler.history.seconds("a step") == seconds
        (fake.cache / "seconds.json").unlink(missing_ok=True)


@pytest.mark.parametrize(("text", "kind"), [("compile", None), ("large", "a step")])
def test_without_a_kind_or_a_program_nothing_is_remembered(fake, text, kind):
    with Compiler(cache_dir=fake.cache) as compiler:
        asked = compiler.compile(text.encode(), "v3", timeout_seconds=20, kind=kind)
        assert asked.result().compiled is (text == "compile")
    assert not (fake.cache / "seconds.json").exists()
