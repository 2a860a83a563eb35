import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import dataset
from input_pipeline.errors import DataError
from input_pipeline.serve import start_dispatcher
from input_pipeline.service import in_order

WINDOW = 8


def arriving(numbers: list[int]) -> tf.data.Dataset:
    """Elements by number, whose content is the number."""
    return tf.data.Dataset.from_tensor_slices(tf.constant(numbers, tf.int64)).map(
        lambda n: (n, {"image": tf.fill([2, 3], tf.cast(n, tf.uint8)), "label": n})
    )


def made(number: tf.Tensor) -> dict[str, tf.Tensor]:
    """What is made in place of a missing one: told apart by its image."""
    return {"image": tf.fill([2, 3], tf.constant(255, tf.uint8)), "label": number}


def ordered(numbers: list[int], first: int = 10) -> list[tuple[int, bool]]:
    """(number, whether it arrived) in the order of coming out."""
    elements = in_order(arriving(numbers), made, first=first, window=WINDOW)
    result = []
    for element in elements.as_numpy_iterator():
        number, image = int(element["label"]), element["image"]
        assert image.shape == (2, 3)
        assert (image == number).all() or (image == 255).all()
        result.append((number, bool(image[0, 0] == number)))
    return result


def shuffled(numbers: list[int], reach: int, seed: int) -> list[int]:
    """None is further than `reach` from its place."""
    draw = random.Random(seed)
    return sorted(numbers, key=lambda n: n + draw.uniform(0, reach))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_within_the_window_is_put_right(seed):
    numbers = list(range(10, 60))
    arrived = shuffled(numbers, WINDOW - 1, seed)
    assert arrived != numbers
    assert ordered(arrived) == [(n, True) for n in numbers]


def test_what_stays_missing_is_made_and_nothing_else():
    lost = {10, 17, 18, 30}
    arrived = [n for n in shuffled(list(range(10, 60)), 4, 0) if n not in lost]
    assert ordered(arrived) == [(n, n not in lost) for n in range(10, 60)]


def test_a_gap_longer_than_the_window():
    found = ordered([10, 11, *range(40, 50)])
    assert found == [(n, n < 12 or n >= 40) for n in range(10, 50)]


def test_doubles_late_ones_and_those_before_the_first_are_dropped():
    lost = [n for n in range(10, 40) if n != 15]
    arrived = [3, 9, *lost[:4], 12, 13, *lost[4:], 15, 20]
    assert ordered(arrived) == [(n, n != 15) for n in range(10, 40)]


def test_no_dispatcher_and_no_address(tiny):
    for service, reason in [
        ("grpc://localhost:1", "refused"),
        ("localhost:5050", "does not begin with grpc://"),
        ("grpc://localhost:x", "invalid literal"),
    ]:
        with pytest.raises(DataError, match=rf"{service}' \(.*{reason}.*serve disp"):
            dataset.train_dataset(
                data_dir=tiny, resolution=16, batch_size=4, seed=0, service=service
            )


@pytest.mark.slow
def test_a_worker_without_a_dispatcher_says_that_it_waits(serve):
    process = serve("worker", "--dispatcher", "localhost:1", stderr=subprocess.PIPE)
    line = process.stderr.readline()
    process.stderr.close()
    assert line.startswith("worker: waiting for a dispatcher at 'localhost:1' (")


@pytest.fixture
def serve() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts servers in processes of their own."""
    processes = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "input_pipeline.serve", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            **options,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def line_of(process: subprocess.Popen) -> str:
    """The line that a server prints when it is ready."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def batches(data_dir: str, **service) -> Iterator:
    """From the middle of a buffer on; batches that buffers do not divide into."""
    images = dataset.train_dataset(
        data_dir=data_dir,
        resolution=16,
        batch_size=10,
        seed=5,
        start=13,
        shuffle_buffer=16,
        **service,
    )
    return images.as_numpy_iterator()


def assert_equal(ours: Iterator, wanted: Iterator, count: int) -> None:
    for _ in range(count):
        got, want = next(ours), next(wanted)
        np.testing.assert_array_equal(got["label"], want["label"])
        np.testing.assert_array_equal(got["image"], want["image"])


@pytest.mark.slow
def test_a_fleet_of_processes_makes_the_batches_of_one_and_may_lose_a_worker(
    tiny, serve
):
    dispatcher = start_dispatcher(0, work_dir=None, worker_timeout=1)
    address = dispatcher.target.removeprefix("grpc://")
    worker = ["worker", "--dispatcher", address, "--host=localhost"]
    workers = [serve(*worker), serve(*worker)]
    assert [line_of(w) for w in workers] == [f"worker: working for {address}"] * 2
    ours = batches(tiny, service=dispatcher.target, service_window=12)
    wanted = batches(tiny)
    assert_equal(ours, wanted, 5)
    workers[0].kill()
    assert_equal(ours, wanted, 40)  # 17 epochs


@pytest.mark.slow
def test_a_dispatcher_that_died_goes_on_where_it_was(tiny, serve, tmp_path):
    start = ["dispatcher", "--work_dir", str(tmp_path), "--port"]
    dispatcher = serve(*start, "0")
    address = line_of(dispatcher).removeprefix("dispatcher: ")
    port = address.rpartition(":")[2]
    worker = ["worker", "--dispatcher", f"localhost:{port}", "--host", "localhost"]
    line_of(serve(*worker))
    ours = batches(tiny, service=address, service_window=12)
    wanted = batches(tiny)
    assert_equal(ours, wanted, 20)
    dispatcher.kill()
    dispatcher.wait()
    line_of(serve(*start, port))
    serve(*worker)
    assert_equal(ours, wanted, 200)
