import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from input_pipeline import dataset
from input_pipeline.errors import DataError
from input_pipeline.service import start_dispatcher


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
def test_a_data_service_makes_the_batches_of_one_process_and_may_lose_a_worker(
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
