import itertools
import pathlib
import random

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.dataset_info import load_info
from input_pipeline.errors import DataError
from input_pipeline.in_order import finite
from input_pipeline.stream import InputHost, Records, stream
from tests.input_pipeline.builders import write_dataset

TOTAL = 23  # of the fixture's training split


def take(data_dir: str, count: int, *, seed: int = 1, host=(0, 1), **options) -> list:
    """The first elements as (index, position), after checking the bytes."""
    records = Records(load_info(data_dir), data_dir, "train")
    options = {"shuffle_buffer": 5, **options}
    elements = stream(records, seed=seed, input_host=InputHost(*host), **options).take(
        count
    )
    return [identify(element) for element in elements.as_numpy_iterator()]


def identify(element) -> tuple[int, int]:
    assert f"{element['position']}.JPEG".encode() in element["serialized"]
    return int(element["index"]), int(element["position"])


def positions(elements: list[tuple]) -> list[int]:
    return [position for _, position in elements]


@pytest.fixture(scope="module")
def chunked(tmp_path_factory) -> str:
    """100 numbered records: shards of several chunks, of none, of part of one."""
    folder = tmp_path_factory.mktemp("chunked")
    numbers = iter(range(100))
    sizes = {"train-0": 37, "train-1": 16, "train-2": 0, "train-3": 46, "train-4": 1}
    write_dataset(
        folder,
        {
            name: [b"%d.JPEG" % next(numbers) for _ in range(size)]
            for name, size in sizes.items()
        },
    )
    return str(folder)


@pytest.mark.parametrize("shuffle_buffer", [1, 5, 1000])
def test_each_epoch_holds_every_record_once_in_another_order(tiny, shuffle_buffer):
    elements = take(tiny, 3 * TOTAL, shuffle_buffer=shuffle_buffer)
    assert [index for index, _ in elements] == list(range(3 * TOTAL))
    epochs = [positions(elements[i * TOTAL : (i + 1) * TOTAL]) for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize(("hosts", "shuffle_buffer"), [(2, 1000), (3, 8)])
@pytest.mark.long
def test_hosts_share_every_epoch_out(chunked, hosts, shuffle_buffer):
    at: dict[int, int] = {}
    for host in range(hosts):
        elements = take(
            chunked, 310 // hosts, host=(host, hosts), shuffle_buffer=shuffle_buffer
        )
        indices = [index for index, _ in elements]
        assert indices == [host + i * hosts for i in range(310 // hosts)]
        at |= dict(elements)
    for epoch in range(3):
        order = [at[i] for i in range(100 * epoch, 100 * (epoch + 1))]
        assert sorted(order) == list(range(100))


@pytest.mark.long
def test_the_order_depends_on_the_seed_alone(tiny):
    """And the stream leaves the program's own seed alone."""
    first = take(tiny, 2 * TOTAL)
    tf.random.set_seed(99)
    want = tf.random.uniform([]).numpy()
    tf.random.set_seed(99)
    assert take(tiny, 2 * TOTAL) == first
    assert tf.random.uniform([]).numpy() == want
    assert take(tiny, 2 * TOTAL, seed=2) != first


@pytest.mark.parametrize("host", [(0, 1), (2, 3)])
@pytest.mark.long
def test_resuming_equals_not_stopping(chunked, host):
    options = {"host": host, "shuffle_buffer": 24}
    everything = take(chunked, 250, **options)
    for start in (100, random.Random(0).randrange(1, 240)):
        resumed = take(chunked, 10, start=start, **options)
        assert resumed == everything[start : start + 10]


def test_a_buffer_mixes_chunks_of_all_files(chunked):
    order = positions(take(chunked, 100, shuffle_buffer=48))
    assert sorted(order) == list(range(100))
    steps = np.abs(np.diff(order))
    assert np.mean(steps == 1) < 0.1
    # As far apart as in a random order, a third of the whole.
    assert 25 < steps.mean() < 42


@pytest.mark.parametrize("hosts", [1, 3])
def test_finite_is_the_file_order_shared_out(chunked, hosts):
    records = Records(load_info(chunked), chunked, "train")
    shares = [
        [
            identify(e)
            for e in finite(records, input_host=InputHost(h, hosts)).as_numpy_iterator()
        ]
        for h in range(hosts)
    ]
    everything = list(itertools.chain(*shares))
    assert everything == [(position, position) for position in range(100)]
    assert {len(share) for share in shares} <= {100 // hosts, -(-100 // hosts)}


@pytest.mark.long
def test_nothing_is_read_of_an_empty_range(chunked):
    records = Records(load_info(chunked), chunked, "train")
    for position in (0, 5, 16, 37, 99):
        at = tf.constant(position, tf.int64)
        ranges = tf.data.Dataset.from_tensors(at).flat_map(
            lambda at: records.read(None, at, at)
        )
        assert len(list(ranges)) == 0


def test_a_position_has_a_file_and_a_number_in_it(chunked):
    records = Records(load_info(chunked), chunked, "train")
    for position, want in [
        (0, ("train-0", 0)),
        (36, ("train-0", 36)),
        (37, ("train-1", 0)),
        (53, ("train-3", 0)),
        (99, ("train-4", 0)),
    ]:
        file, number = records.location(tf.constant(position, tf.int64))
        assert file.numpy() == f"{chunked}/{want[0]}".encode()
        assert number.numpy() == want[1]


def test_shards_held_out_and_the_rest_are_the_whole(chunked):
    info = load_info(chunked)
    held_out = Records(info, chunked, "train[:2shard]")
    rest = Records(info, chunked, "train[2shard:]")
    assert (held_out.total, rest.total) == (53, 47)
    first = next(finite(rest).as_numpy_iterator())
    assert first["serialized"] == b"53.JPEG"


def test_impossible_requests(tiny):
    info = load_info(tiny)
    with pytest.raises(ValueError, match=r"host 2 is not one of 2 hosts"):
        InputHost(2, 2)
    with pytest.raises(DataError, match=r"no split 'test'.*train, validation"):
        Records(info, tiny, "test")


@pytest.mark.slow
def test_a_million_records_in_flat_memory(tmp_path):
    count, shards = 1_000_000, 16
    size = count // shards
    write_dataset(
        tmp_path,
        {
            f"train-{i:05d}": [b"%d" % n for n in range(i * size, (i + 1) * size)]
            for i in range(shards)
        },
    )
    records = Records(load_info(str(tmp_path)), str(tmp_path), "train")
    seen = np.zeros(count, int)
    memory = []
    batches = stream(records, seed=1).batch(1000).take(1000)
    for i, batch in enumerate(batches.as_numpy_iterator()):
        numbers = batch["serialized"].astype(int)
        np.testing.assert_array_equal(numbers, batch["position"])
        seen[numbers] += 1
        if i % 100 == 99:
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            memory.append(pages * 4096 / 2**20)
    assert (seen == 1).all()
    assert max(memory[1:]) - memory[1] < 30  # MiB, from 200,000 records on
