"""What reading and writing gs:// takes, of the client that TensorFlow has."""

import json

import pytest

from benchmarks import storage
from benchmarks.storage import DEFAULT, OURS, StorageSettings

SIZES = ("2 MB", "digits")
pytestmark = pytest.mark.slow  # of half a minute, for a script that few run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    settings = StorageSettings(
        shard_mb=(2,), record_kb=20, images=160, tensors=250, latency_ms=1
    )
    return storage.measure(settings)


def rows(report, **wanted):
    return [
        row
        for part in ("reading", "checkpoint")
        for row in report[part]
        if row.items() >= wanted.items()
    ]


@pytest.mark.parametrize("files", SIZES)
def test_training_fetches_what_it_reads(report, files):
    (ours,) = rows(report, what="training", files=files, side=OURS)
    assert 1 <= ours["fetched"] <= 1.15
    # A byte before it and the chunk; one chunk may be cut by the end of the buffer.
    assert ours["reads"] <= 2 * (160 / 16 + 3)
    (theirs,) = rows(report, what="training", files=files, side=DEFAULT)
    assert theirs["fetched"] > 3 * ours["fetched"]


@pytest.mark.parametrize("side", [OURS, DEFAULT])
@pytest.mark.parametrize("files", SIZES)
def test_evaluation_reads_each_file_once_whatever_the_settings(report, files, side):
    (row,) = rows(report, what="evaluation", files=files, side=side)
    assert 1 <= row["fetched"] <= 1.05
    # And dataset_info.json; where a buffer is filled, its end is looked for, too.
    assert row["reads"] <= 2 * 2 + 1


@pytest.mark.parametrize("side", [OURS, DEFAULT])
@pytest.mark.parametrize(("what", "times"), [("write", 1), ("restore", 1), ("best", 1)])
def test_a_checkpoint_is_read_from_front_to_back(report, what, times, side):
    (row,) = rows(report, what=what, side=side)
    assert times <= row["fetched"] <= times * 1.05
    assert row["reads"] <= 40
    (reader,) = rows(report, what="reader", side=side)
    assert reader["fetched"] > 5


def test_the_rest_of_the_report(report):
    assert report["heartbeat_requests_per_hour"] == 360 * 6
    waiting = report["waiting"]
    assert waiting["in_flight_of_a_buffer"] >= 8
    assert waiting["images_per_second_at_200_ms"] > 0
    assert waiting["waiting_allows_images_per_second"]["30 ms"]["16 cores or more"] == (
        25600
    )
    assert len(report["reading"]) == 2 * 5


def test_a_process_that_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(storage, "_CODE", "raise SystemExit('no such thing')")
    assert storage.main(["--shard_mb=1"]) == 2
    assert "has failed: no such thing" in capsys.readouterr().err


def test_the_line(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        storage, "measure", lambda s: asked.append(s) or {"reading": []}
    )
    assert storage.main(["--shard_mb=1,3", "--images=32"]) == 0
    assert asked == [StorageSettings(shard_mb=(1, 3), images=32)]
    line = json.loads(capsys.readouterr().out)
    assert line["benchmark"] == "storage"
    assert line["settings"]["shard_mb"] == [1, 3]
