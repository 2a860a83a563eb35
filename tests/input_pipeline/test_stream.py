import itertools
import random

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.records import load_info
from input_pipeline.stream import finite, host_share, stream

TOTAL = 23  # of the fixture's training split


def take(data_dir: str, count: int, *, seed: int = 1, **options) -> list[tuple]:
    """The first elements as (index, shard, record), after checking the bytes."""
    options = {"shuffle_buffer": 5, **options}
    records = stream(load_info(data_dir), data_dir, "train", seed=seed, **options)
    return [identify(element) for element in records.take(count).as_numpy_iterator()]


def identify(element) -> tuple[int, str, int]:
    shard = element["file"].decode().rsplit("/", 1)[1]
    value = {"train-0": 0, "train-1": 9, "train-2": 16}.get(shard, 0)
    if shard.startswith("train"):
        name = f"{value + element['record']}.JPEG".encode()
        assert name in element["serialized"]
    return int(element["index"]), shard, int(element["record"])


def places(elements: list[tuple]) -> list[tuple]:
    return [element[1:] for element in elements]


@pytest.mark.parametrize("shuffle_buffer", [1, 5, 1000])
def test_each_epoch_holds_every_record_once_in_another_order(tiny, shuffle_buffer):
    elements = take(tiny, 3 * TOTAL, shuffle_buffer=shuffle_buffer)
    assert [index for index, *_ in elements] == list(range(3 * TOTAL))
    epochs = [places(elements[i * TOTAL : (i + 1) * TOTAL]) for i in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == TOTAL
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_order_depends_on_the_seed_alone(tiny):
    first = take(tiny, 2 * TOTAL)
    tf.random.set_seed(99)
    assert take(tiny, 2 * TOTAL) == first
    assert take(tiny, 2 * TOTAL, seed=2) != first


def test_building_the_stream_leaves_the_global_seed_alone(tiny):
    tf.random.set_seed(4)
    want = tf.random.uniform([]).numpy()
    tf.random.set_seed(4)
    take(tiny, 1)
    assert tf.random.uniform([]).numpy() == want


@pytest.mark.parametrize("num_hosts", [1, 2, 3])
def test_hosts_take_turns_in_the_global_order(tiny, num_hosts):
    everything = take(tiny, 2 * TOTAL)
    for host in range(num_hosts):
        share = host_share(2 * TOTAL, num_hosts, host)
        mine = take(tiny, share, num_hosts=num_hosts, host=host)
        assert mine == everything[host::num_hosts]


@pytest.mark.parametrize(("num_hosts", "host"), [(1, 0), (3, 2)])
def test_resuming_equals_not_stopping(tiny, num_hosts, host):
    hosts = {"num_hosts": num_hosts, "host": host}
    everything = take(tiny, 80, **hosts)
    for start in [TOTAL, *random.Random(0).sample(range(1, 70), 2)]:
        assert take(tiny, 10, start=start, **hosts) == everything[start : start + 10]


@pytest.mark.parametrize("num_hosts", [1, 2, 3])
def test_finite_is_the_file_order_shared_out(tiny, num_hosts):
    info = load_info(tiny)
    shares = [
        [
            identify(element)
            for element in finite(
                info, tiny, "validation", num_hosts=num_hosts, host=host
            ).as_numpy_iterator()
        ]
        for host in range(num_hosts)
    ]
    files = [("validation-0", i) for i in range(6)]
    files += [("validation-1", i) for i in range(4)]
    everything = [(index, *place) for index, place in enumerate(files)]
    assert shares == [everything[host::num_hosts] for host in range(num_hosts)]
    assert [len(share) for share in shares] == [
        host_share(10, num_hosts, host) for host in range(num_hosts)
    ]


def test_a_shuffle_buffer_mixes_the_files(tiny):
    shards = [shard for _, shard, _ in take(tiny, TOTAL, shuffle_buffer=100)]
    assert np.mean([a == b for a, b in itertools.pairwise(shards)]) < 0.7


def test_impossible_requests(tiny):
    info = load_info(tiny)
    with pytest.raises(ValueError, match=r"host 2 is not one of 2 hosts"):
        stream(info, tiny, "train", seed=0, num_hosts=2, host=2)
    with pytest.raises(DataError, match=r"no split 'test'.*train, validation"):
        finite(info, tiny, "test")
