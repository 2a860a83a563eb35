"""What a worker is told of its slice, and who reaches it."""

import ipaddress
import socket
import subprocess
import sys
import threading

import pytest

from common import listening
from launch.host import worker
from tests.support import processes
from train.distribution import workers

ADDRESSES = [ipaddress.ip_address(f"10.0.0.{n}") for n in range(2, 10)]


def test_libtpu_is_told_its_place():
    assert worker.environment("v6e", 3, ADDRESSES) == {
        "TPU_STDERR_LOG_LEVEL": "0",
        "CLOUD_TPU_TASK_ID": "3",
        "TPU_LOCK_DEVICE": "true",
        "TPU_MESH_CONTROLLER_ADDRESS": "10.0.0.2:8476",
        "TPU_MESH_CONTROLLER_PORT": "8476",
        "TPU_HOSTNAME_OVERRIDE": "10.0.0.5",
    }


# As tensorflow-tpu has it: v2-8 is of one host, v3-32 of four ... v3-2048 of 256.
@pytest.mark.parametrize(
    ("hosts", "bounds"),
    [
        (1, "1,1,1"),
        (4, "2,2,1"),
        (8, "2,4,1"),
        (16, "4,4,1"),
        (32, "4,8,1"),
        (64, "8,8,1"),
        (128, "8,16,1"),
        (256, "16,16,1"),
    ],
)
def test_of_v2_and_v3_libtpu_is_told_how_the_hosts_lie(hosts, bounds):
    addresses = [ADDRESSES[0]] * hosts
    for generation in ("v2", "v3"):
        told = worker.environment(generation, 0, addresses)
        assert told["TPU_HOST_BOUNDS"] == bounds
        assert told["TPU_CHIPS_PER_HOST_BOUNDS"] == "2,2,1"


def test_a_name_that_comes_later_is_waited_for(monkeypatch, capsys):
    answers = [OSError("no such name"), OSError("no such name"), "10.0.0.7"]

    def getaddrinfo(name, *_, **__):
        assert name == "job-0-1.job"
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, 1, 6, "", (answer, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(worker, "_NAMES_SECONDS", 0)
    assert worker.resolve("job-0-1.job:8470") == [ipaddress.ip_address("10.0.0.7")]
    assert capsys.readouterr().err == "waiting until job-0-1.job has an address\n"


def test_a_host_may_come_by_each_of_its_addresses(monkeypatch):
    """As `localhost` does; GKE calls the only host of a slice so (from memory)."""
    rows = [(0, 1, 6, "", (one, 0)) for one in ("::1", "127.0.0.1", "::1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    found = worker.resolve("localhost:8470")
    assert list(map(str, found)) == ["127.0.0.1", "::1"]
    told = worker.environment("v5e", 0, [found[0]])
    assert told["TPU_MESH_CONTROLLER_ADDRESS"] == "127.0.0.1:8476"


def behind(port, callers):
    """Listen as a server of TensorFlow's does, behind a guard; return both."""
    guard = listening.guard(port, callers, of=listening.CALLER)
    server = socket.socket(guard.family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind(guard.getsockname()[:2])
    server.listen()
    return guard, server


def test_only_the_hosts_of_the_slice_get_through():
    [port] = processes.free_ports(1)
    # More than a jump of a condition is long.
    slice_ = [
        ipaddress.ip_address(f"127.0.{n // 250}.{n % 250 + 1}") for n in range(400)
    ]
    guard, server = behind(port, slice_)
    server.settimeout(5)
    here = ("127.0.0.1", port)
    with guard, server:
        for caller in ("127.0.0.1", "127.0.1.150"):
            with socket.create_connection(here, 5, source_address=(caller, 0)):
                call, (who, *_) = server.accept()
                call.close()
                assert who.endswith(caller)
        with pytest.raises(TimeoutError):
            socket.create_connection(here, 0.3, source_address=("127.0.9.9", 0))


@pytest.mark.slow
def test_a_kernel_that_closes_no_port_is_said(monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(listening, "_SO_ATTACH_FILTER", -1)  # there is none such
    with worker.take(port, [ipaddress.ip_address("127.0.0.1")]) as guard:
        assert guard.getsockname()[1] == port
    said = capsys.readouterr().err
    assert f"whoever reaches port {port} may run code here: a firewall alone" in said


@pytest.mark.long
def test_a_worker_serves_its_slice_alone_and_outlives_sigterm():
    [port] = processes.free_ports(1)
    flags = ["--number=0", f"--hosts=127.0.0.1:{port},127.0.0.7:1", "--generation=v6e"]
    command = [sys.executable, "-m", "launch.host.worker", *flags]
    with subprocess.Popen(command) as process:
        try:
            waiting = threading.Event()
            while workers.why_silent(f"127.0.0.1:{port}"):
                assert process.poll() is None
                waiting.wait(0.1)
            with pytest.raises(TimeoutError):
                socket.create_connection(
                    ("127.0.0.1", port), 0.3, source_address=("127.0.0.9", 0)
                )
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            assert workers.why_silent(f"127.0.0.1:{port}") is None
        finally:
            process.kill()
