"""A bucket that does not answer is named while TensorFlow waits for it in silence."""

import re
import time

import pytest

from common import gcs, outages
from tests.support.own_bucket import own_bucket

WAITING = "gs://bucket has not answered for "


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(outages, "_PAUSE_SECONDS", 0.05)
    with own_bucket(tmp_path) as store:
        yield store


def said_within(capsys, words, seconds=10.0):
    """Return whether that is said before so many seconds are over."""
    until, text = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        text += capsys.readouterr().err
        if re.search(words, text):
            return True
        time.sleep(0.02)
    return False


def asked(store):
    return store.stats.get("stat", {}).get("requests", 0)


def test_an_outage_is_said_once_a_minute_and_its_end(store, capsys):
    store.faults = [{"do": "503"}]
    with outages.said(["gs://bucket/run", "/a/disk"]):
        outages.watch("gs://bucket/data")  # in the same one
        line = WAITING + r"\d+ s: 503: injected 503\. This waits for it\n"
        assert said_within(capsys, line)
        before = asked(store)
        assert not said_within(capsys, WAITING, 0.5)
        assert asked(store) > before
        store.faults = []
        assert said_within(capsys, r"gs://bucket answers again, after \d+ s\n")


def test_a_login_that_is_none_is_named(store, capsys, monkeypatch, tmp_path):
    """TensorFlow looks for another for minutes."""
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    gcs.forget_connections()
    with outages.said(["gs://bucket"]):
        assert said_within(capsys, WAITING + r"\d+ s: The file \S+key\.json does not")
    assert asked(store) == 0


def test_a_bucket_that_hangs(store, capsys, monkeypatch):
    monkeypatch.setattr(outages, "_ANSWER_SECONDS", 0.1)
    store.faults = [{"do": "hang"}]
    with outages.said(["gs://bucket"]):
        assert said_within(capsys, WAITING + r"\d+ s: no word within 0 s")


@pytest.mark.parametrize(
    "rule",
    [{"do": "403"}, {"do": "404"}, {"do": "503", "chance": 0.4}],
    ids=["refused", "gone", "busy at times"],
)
def test_an_answer_is_none_of_its_business(rule, store, capsys):
    store.faults = [rule]
    with outages.said(["gs://bucket"]):
        assert not said_within(capsys, ".", 0.5)
        assert asked(store) > 2


def test_behind_a_command_nobody_is_asked(store):
    with outages.said(["gs://bucket"]):
        pass
    outages.watch("gs://bucket")
    time.sleep(0.3)
    assert asked(store) == 0
