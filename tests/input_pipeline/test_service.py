import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from input_pipeline import dataset
from input_pipeline.errors import DataError
from input_pipeline.fused import library
from input_pipeline.serve import main as serve_main
from input_pipeline.service import connect, start_dispatcher
from tests.support import commands, processes


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
    assert line.startswith("worker: waiting for a dispatcher at 'localhost:1' (")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "reached", "who"),
    [
        ("localhost", False, ": from this machine alone"),
        ("0.0.0.0", True, ", by everybody who gets there: let a firewall keep"),
    ],
)
def test_where_a_dispatcher_can_be_reached(serve, host, reached, who):
    process = serve("dispatcher", "--port=0", f"--host={host}", stderr=subprocess.PIPE)
    port = int(line_of(process).rpartition(":")[2])
    said = process.stderr.readline()
    process.stderr.close()
    assert said.startswith("dispatcher: can be reached at ")
    assert f"{port}{who}" in said
    connect(f"127.0.0.1:{port}")
    assert is_reached("127.0.0.2", port) is reached
    second = serve("dispatcher", f"--port={port}", stderr=subprocess.PIPE)
    assert second.communicate(timeout=60) == (
        "",
        f"error: cannot listen at port {port}: Address already in use; end what holds "
        "it, or choose another port\n",
    )
    assert second.returncode == 2


@pytest.mark.slow
def test_a_worker_whose_dispatcher_is_none(serve):
    """It is closed to strangers from the first moment on, and obeys SIGTERM."""
    (port,) = processes.free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = serve("worker", f"--dispatcher={address}", f"--port={port}")
        silent.accept()[0].close()  # a first look
        silent.accept()[0].close()  # TensorFlow's, whose server listens by now
        assert is_reached("127.0.0.1", port)
        assert not is_reached("127.0.0.2", port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def is_reached(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=0.3).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dispatcher", "--port=-1"], "'-1' is not a whole number, 0 or more and belo"),
        (["dispatcher", "--port=70000"], "'70000' is not a whole number, 0 or more an"),
        (["dispatcher", "--worker_timeout=nan"], "'nan' is not a number above 0 and b"),
        (["dispatcher", "--worker_timeout=1e30"], "'1e30' is not a number above 0 and"),
        (["dispatcher", "--work_dir="], "it is empty: name a file or folder"),
        (["dispatcher", "--port=0", "--work_dir=/dev/null"], "/dev/null is not a dir"),
        (["dispatcher", "--host="], "--host= is neither a name nor an address ("),
        (["dispatcher", "--host=198.51.100.7"], "--host=198.51.100.7 is no address of"),
        (["worker", "--dispatcher="], "'' is no HOST:PORT with a port of 1 to 65535"),
        (["worker", "--dispatcher=a"], "'a' is no HOST:PORT with a port of 1 to 65535"),
        (["worker", "--dispatcher=a:0"], "'a:0' is no HOST:PORT with a port of 1 to"),
        (["worker", "--dispatcher=http://a:1"], "'http://a:1' is no HOST:PORT with a"),
        (["worker", "--dispatcher=a..b:1"], "--dispatcher=a..b:1: no such host ("),
        (
            ["worker", "--dispatcher=grpc://127.0.0.1:1", "--host=198.51.100.7"],
            "--host=198.51.100.7 is no address of this machine",
        ),
        (
            ["worker", "--dispatcher=127.0.0.1:1", "--listen=198.51.100.7"],
            "--listen=198.51.100.7 is no address of this machine",
        ),
    ],
)
def test_mistakes_of_a_server_are_one_line(arguments, said, capsys, signals):
    assert commands.status(serve_main, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if "error: " in line]
    assert said in errors[0]
    assert errors == lines[-1:]


@pytest.fixture
def signals():
    """Those that a server blocks in its own process."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture
def serve() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts servers in processes of their own."""
    started = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "input_pipeline.serve", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            **options,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
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
@pytest.mark.parametrize("fused_ops", [None, True])
def test_a_data_service_makes_the_batches_of_one_process_and_may_lose_a_worker(
    tiny, serve, fused_ops
):
    if fused_ops and library.find().ops is None:
        pytest.skip("no fused input ops")
    dispatcher = start_dispatcher(0, work_dir=None, worker_timeout=1)
    address = dispatcher.target.removeprefix("grpc://")
    worker = ["worker", "--dispatcher", address, "--host=localhost"]
    workers = [serve(*worker), serve(*worker)]
    assert [line_of(w) for w in workers] == [f"worker: working for {address}"] * 2
    ours = batches(
        tiny, service=dispatcher.target, service_window=12, fused_ops=fused_ops
    )
    wanted = batches(tiny, fused_ops=False)
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
