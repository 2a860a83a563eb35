"""Damaged bytes of a TFRecord file: always found, the right record named."""

import dataclasses

import numpy as np
import pytest

from input_pipeline import records
from input_pipeline.validation import inspect_shard as of_shards
from input_pipeline.validation.findings import FaultKind, Location
from input_pipeline.validation.inspect_shard import ShardTask, inspect_shard
from tests.input_pipeline.builders import example

LABELS = range(1, 6)
GOOD = [example(i) for i in range(40)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> tuple[records.ShardInfo, bytes]:
    path = tmp_path_factory.mktemp("bytes") / "train-0"
    info = records.write_shard(str(path), GOOD)
    return info, path.read_bytes()


@pytest.fixture
def damaged(tmp_path, shard):
    """Function: bytes -> what is found in a shard of them, and its records' numbers."""
    info, _ = shard
    path = tmp_path / "train-0"

    def inspect(content: bytes) -> tuple[dict[FaultKind, list[Location]], list[int]]:
        path.write_bytes(content)
        task = ShardTask(str(path), info, LABELS, decode=False)
        report = inspect_shard(task, lambda _: None)
        return report.findings.locations, report.images["record"].tolist()

    return inspect


STARTS = np.cumsum([0, *(len(record) + 16 for record in GOOD)]).tolist()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def test_a_changed_byte_of_data_is_found(damaged, shard):
    random = np.random.RandomState(0)
    for record in [0, 39, *random.randint(0, 40, 6).tolist()]:
        # Data, and the CRC behind them.
        place = random.randint(STARTS[record] + 12, STARTS[record + 1])
        found, numbers = damaged(flipped(shard[1], place))
        detail = "its data do not match their CRC"
        want = {FaultKind.DAMAGED_RECORD: [Location("train-0", record, "", detail)]}
        assert found == want
        assert numbers == [n for n in range(40) if n != record]


@pytest.mark.parametrize(
    ("record", "next_read", "rest"),
    [
        (0, 16, "; records 0 to 15 cannot be looked at"),
        (15, 16, ""),
        (16, 32, "; records 16 to 31 cannot be looked at"),
        (30, 32, "; records 30 to 31 cannot be looked at"),
        (35, 40, "; records 35 to the end cannot be looked at"),
    ],
)
def test_a_changed_length_is_found(damaged, shard, record, next_read, rest):
    detail = f"its length does not match its CRC{rest}"
    for byte in (0, 3, 7, 8, 11):  # of the length, and of its CRC
        found, numbers = damaged(flipped(shard[1], STARTS[record] + byte))
        want = {FaultKind.DAMAGED_RECORD: [Location("train-0", record, "", detail)]}
        assert found == want
        assert numbers == [*range(record), *range(next_read, 40)]


@pytest.mark.parametrize("record_bytes", [1, 1 << 20])
def test_several_damages_in_one_file(damaged, shard, monkeypatch, record_bytes):
    """Of large records, which are read one by one, and of others."""
    monkeypatch.setattr(of_shards, "_RECORD_BYTES", record_bytes)
    sizes, batches = set(), of_shards._batches_from

    def batches_from(path, offset, size):
        sizes.add(size)
        return batches(path, offset, size)

    monkeypatch.setattr(of_shards, "_batches_from", batches_from)
    content = shard[1]
    for place in (STARTS[3] + 20, STARTS[5], STARTS[20] + 50, STARTS[21] + 50):
        content = flipped(content, place)
    found, numbers = damaged(content)
    locations = found.pop(FaultKind.DAMAGED_RECORD)
    assert [location.record for location in locations] == [3, 5, 20, 21]
    assert not found
    assert numbers == [0, 1, 2, 4, *range(16, 20), *range(22, 40)]
    assert sizes == ({1} if record_bytes == 1 else {1, 8})


@pytest.mark.long
def test_a_truncated_file_is_found(damaged, shard):
    random = np.random.RandomState(1)
    places = random.randint(1, len(shard[1]), 6).tolist()
    near = [STARTS[n] + d for n in (1, 16, 39) for d in (-4, -1, 1, 8, 11, 12, 13)]
    for place in [*places, *near, len(shard[1]) - 1]:
        record = int(np.searchsorted(STARTS, place, side="right")) - 1
        found, numbers = damaged(shard[1][:place])
        if place in STARTS:
            detail = f"{record}, dataset_info.json says 40"
            want = {FaultKind.WRONG_COUNT: [Location("train-0", detail=detail)]}
        else:
            detail = "the file ends within it, 40 are listed"
            want = {FaultKind.CUT_OFF_FILE: [Location("train-0", record, "", detail)]}
        assert found == want
        assert numbers == list(range(record))


def test_the_end_of_a_file_between_two_records_is_found(damaged, shard):
    found, numbers = damaged(shard[1][: STARTS[7]])
    detail = "7, dataset_info.json says 40"
    assert found == {FaultKind.WRONG_COUNT: [Location("train-0", detail=detail)]}
    assert numbers == list(range(7))


def test_bytes_behind_the_last_record_are_found(damaged, shard):
    found, numbers = damaged(shard[1] + b"\0" * 50)
    ((kind, (location,)),) = found.items()
    assert (kind, location.record) == (FaultKind.DAMAGED_RECORD, 40)
    assert numbers == list(range(40))


def test_wrong_offsets_do_not_lead_astray(tmp_path, shard):
    info, content = shard
    path = tmp_path / "train-0"
    path.write_bytes(flipped(content, STARTS[5]))
    wrong = dataclasses.replace(info, offsets=(0, info.offsets[1] + 1, info.offsets[2]))
    report = inspect_shard(ShardTask(str(path), wrong, LABELS, False), lambda _: None)
    (location,) = report.findings.locations[FaultKind.DAMAGED_RECORD]
    assert location.detail.endswith("records 5 to 31 cannot be looked at")
    assert report.images["record"].tolist() == [*range(5), *range(32, 40)]
