"""Records in a bucket that is busy, refuses or is gone, by TensorFlow's own client.

on_bad_record is "skip" all the while: what the storage itself says is no bad record.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.input_pipeline.builders import example, write_dataset
from tests.input_pipeline.busy_reads import SIZE
from tests.support import bucket, fake_gcs

# Two buffers are read at a time, and others are begun where these have failed.
CHUNKS = 4 * SIZE // 16
# Tries for a chunk, 11 each: the byte before it, the file from its begin on (so
# TensorFlow skips to an offset), and then what asks for the error.
TRIES = 33
REFUSED = (
    "HTTP 403: injected 403; the bucket refuses this account: give it a role there, as "
    "roles/storage.objectUser on gs://data"
)
HERE = ("local train: none", "train: busy", "train: short", "train: refused")
REST = (
    *("train: all busy", "train: slow down", "train: broken connections"),
    *("train: not there", "train: anonymous", "train: none"),
    *("local eval: none", "eval: none", "eval: short", "eval: busy", "eval: refused"),
)


def meet(folder: Path, *cases: str) -> dict[str, Any]:
    """Return what a process has met, see `busy_reads`."""
    shards = {
        f"train-{n}": [example(i) for i in range(64 * n, 64 * n + 64)] for n in range(2)
    }
    write_dataset(folder / "digits", shards)
    with bucket.serving(folder / "state", "data") as served:
        fake_gcs.load(served.store, f"data/digits={folder / 'digits'}")
        command = [sys.executable, "-m", "tests.input_pipeline.busy_reads", *cases]
        status, met, said = served.run(
            command, PYTHONPATH=str(Path.cwd()), DIGITS=str(folder / "digits")
        )
    assert not status, said
    assert "bad record" not in said
    return json.loads(met)


@pytest.fixture(scope="module")
def met(tmp_path_factory) -> dict[str, Any]:
    return meet(tmp_path_factory.mktemp("bucket"), *HERE)


@pytest.mark.long
def test_a_busy_bucket_is_asked_no_more_than_it_takes(met):
    busy = met["train: busy"]
    assert busy["end"] == "Restart"
    assert busy["line"].startswith("cannot read gs://data/digits/train-")
    assert busy["line"].endswith(" now: HTTP 503: injected 503")
    assert 11 < busy["requests"] <= CHUNKS * TRIES


@pytest.mark.long
def test_an_outage_that_passes_changes_nothing(met):
    local, short = met["local train: none"], met["train: short"]
    assert short["requests"] > 40
    for key in ("end", "labels", "sum"):
        assert short[key] == local[key]


@pytest.mark.long
def test_a_refusal_is_named_as_one(met):
    refused = met["train: refused"]
    assert refused["end"] == "UserError"
    assert refused["line"].startswith("cannot read gs://data/digits/train-")
    assert refused["line"].endswith(f": {REFUSED}")
    # Three each. How many more are begun before the error is heard is the machine's;
    # tried again, as what is busy is, each would be 11 times as many.
    assert refused["requests"] <= 2 * 3 * CHUNKS


@pytest.mark.slow
def test_every_fault_of_reading(tmp_path):
    met = meet(tmp_path, "local train: none", *REST)
    for case, end, words in (
        ("train: all busy", "Restart", "now: HTTP 503: injected 503"),
        ("train: slow down", "Restart", "now: HTTP 429: injected 429"),
        ("train: broken connections", "Restart", "now: Empty reply from server"),
        ("train: not there", "UserError", "404; it is not there, or gs://data is not:"),
        ("train: anonymous", "Restart", "now, the access token was lost: HTTP 401"),
        ("eval: busy", "Restart", "train-0 now: HTTP 503: injected 503"),
        ("eval: refused", "UserError", f"train-0: {REFUSED}"),
    ):
        assert met[case]["end"] == end, case
        assert words in met[case]["line"], case
        assert met[case]["requests"] <= CHUNKS * TRIES, case
    for case in ("train: none", "eval: none", "eval: short"):
        local = met[f"local {case.partition(':')[0]}: none"]
        assert met[case] | {"requests": 0} == local, case
