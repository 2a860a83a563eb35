import itertools

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import in_order
from input_pipeline.chunks import UNREADABLE, Chunks
from input_pipeline.dataset_info import load_info
from input_pipeline.in_order import finite
from input_pipeline.records import FRAMING, ShardInfo
from input_pipeline.stream import InputHost, Records
from tests.input_pipeline.builders import write_dataset

SIZES = {"train-0": 37, "train-1": 16, "train-2": 0, "train-3": 46, "train-4": 1}


@pytest.fixture
def folder(tmp_path):
    """100 numbered records: shards of several chunks, of none, of part of one."""
    numbers = iter(range(100))
    shards = {
        name: [b"%d.JPEG" % next(numbers) for _ in range(size)]
        for name, size in SIZES.items()
    }
    write_dataset(tmp_path, shards)
    return tmp_path


def read(folder, *, in_bucket, host=0, hosts=1):
    """All elements of an input host, from a disk or as if it were a bucket."""
    records = Records(load_info(str(folder)), str(folder), "train")
    records.in_bucket = in_bucket
    elements = finite(records, input_host=InputHost(host, hosts))
    return [
        (int(e["index"]), int(e["position"]), e["serialized"])
        for e in elements.as_numpy_iterator()
    ]


@pytest.mark.long
@pytest.mark.parametrize(("hosts", "run_bytes"), [(1, in_order._RUN_BYTES), (3, 500)])
def test_runs_are_the_chunks_one_after_another(folder, hosts, run_bytes, monkeypatch):
    monkeypatch.setattr(in_order, "_RUN_BYTES", run_bytes)
    shares = [
        read(folder, in_bucket=True, host=host, hosts=hosts) for host in range(hosts)
    ]
    everything = list(itertools.chain(*shares))
    assert [one[:2] for one in everything] == [(n, n) for n in range(100)]
    assert everything == read(folder, in_bucket=False)


@pytest.mark.long
def test_more_hosts_than_records_of_a_chunk(folder):
    for host in (36, 119):
        options = {"host": host, "hosts": 120}
        shares = [read(folder, in_bucket=one, **options) for one in (True, False)]
        assert shares[0] == shares[1]
        assert len(shares[0]) == (host < 100)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def double(path):
    path.write_bytes(path.read_bytes() * 2)


def other_lengths(path):
    """As many records, sound ones; no chunk but the first is where it should be."""
    content = path.read_bytes()
    first = int.from_bytes(content[:8], "little") + FRAMING
    path.write_bytes(content[first:] + content[:first])


@pytest.mark.long
@pytest.mark.parametrize(
    ("damage", "hosts"),
    [
        (lambda path: flip(path, 300), 1),
        (cut, 1),
        (double, 1),
        (other_lengths, 3),
    ],
)
def test_what_is_damaged_is_what_it_is_in_chunks(folder, damage, hosts):
    info = load_info(str(folder))
    damage(folder / "train-0")
    shares = []
    for in_bucket in (True, False):
        records = Records(info, str(folder), "train")
        records.in_bucket = in_bucket
        shares.append(
            [
                list(finite(records, input_host=InputHost(host, hosts)).batch(100))
                for host in range(hosts)
            ]
        )
    runs, chunks = (
        [{k: v.numpy().tolist() for k, v in batch.items()} for (batch,) in share]
        for share in shares
    )
    assert runs == chunks
    assert any(UNREADABLE in one["serialized"] for one in runs) or damage is double


@pytest.mark.long
@pytest.mark.parametrize("in_bucket", [True, False])
def test_a_file_that_is_gone_is_no_bad_record(folder, in_bucket):
    records = Records(load_info(str(folder)), str(folder), "train")
    records.in_bucket = in_bucket
    (folder / "train-0").unlink()
    with pytest.raises(tf.errors.NotFoundError, match="train-0; No such file"):
        list(finite(records))


def test_so_much_is_read_at_a_time(folder, monkeypatch):
    records = Records(load_info(str(folder)), str(folder), "train")
    runs, at_a_time = in_order._runs(records, 10, 90)
    assert runs.tolist() == [[10, 37], [37, 53], [53, 90]]
    assert at_a_time == records.parallel_chunks
    largest = sum(len(b"%d.JPEG" % n) + FRAMING for n in range(53, 99))
    monkeypatch.setattr(in_order, "_RUNS_BYTES", 3 * largest + 1000)
    assert in_order._runs(records, 10, 90)[1] == 3
    monkeypatch.setattr(in_order, "_RUNS_BYTES", 0)
    assert in_order._runs(records, 10, 90)[1] == 1
    assert in_order._runs(records, 10, 10)[0].shape == (0, 2)


def test_what_reading_chunks_fetches():
    shards = (
        ShardInfo("a", 40, (0, 1000, 2500)),  # the last one counts as 1,500
        ShardInfo("b", 16, (0,)),
    )
    chunks = Chunks.of(shards)
    assert chunks.bytes.tolist() == [1000, 1500, 1500, 1500]
    assert chunks.position.tolist() == [0, 16, 32, 40]
    assert chunks.size.tolist() == [16, 16, 8, 16]
    assert chunks.is_last.tolist() == [False, False, True, True]
    assert chunks.fetched(0) == 5500
    assert chunks.fetched(100) == 1100 + 1600 + 1500 + 1500
    assert chunks.fetched(2000) == 2000 + 2000 + 1500 + 1500
    assert chunks.fetched(64 << 20) == 4000 + 3000 + 1500 + 1500
    assert np.sum(Chunks.of(shards[1:]).bytes) == 2 << 20  # nobody knows
