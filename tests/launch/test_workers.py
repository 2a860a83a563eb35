"""The processes that stand for hosts, and what they are told."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launch.rehearsal import workers


def test_a_client_reaches_the_workers_past_a_proxy():
    there = workers.without_proxy({"https_proxy": "http://p", "no_proxy": "x.org"})
    assert there["https_proxy"] == "http://p"
    assert there["no_proxy"] == there["NO_PROXY"] == "x.org,127.0.0.1,localhost"


def test_workers_have_an_environment_of_their_own(monkeypatch):
    monkeypatch.setenv("GCS_READ_CACHE_BLOCK_SIZE_MB", "0")
    monkeypatch.setenv("HOME", "/somebody")
    found = workers._environment({"GCS_REQUEST_IDLE_TIMEOUT_SECS": "5"})
    assert found["HOME"] == "/somebody"
    assert [name for name in found if name.startswith("GCS_")] == [
        "GCS_REQUEST_IDLE_TIMEOUT_SECS"
    ]


PARENT = """
import os, sys
from launch.rehearsal import workers
with workers.started(2, 1) as slice_:
    print(*slice_.ports, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_workers_end_with_who_has_started_them():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        ports = [int(port) for port in parent.stdout.readline().split()]
        assert len(set(ports)) == 2
        calls = [socket.create_connection(("127.0.0.1", port)) for port in ports]
        parent.send_signal(signal.SIGKILL)
        for call in calls:
            with call, contextlib.suppress(ConnectionResetError):
                call.settimeout(60)
                while call.recv(4096):  # what gRPC says of itself, and then the end
                    pass


@pytest.mark.slow
def test_workers_read_where_who_has_started_them_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # from which a relative path of data starts
    with workers.started(1, 1) as slice_:
        assert Path(f"/proc/{slice_.processes[0].pid}/cwd").resolve() == tmp_path


@pytest.mark.slow
def test_a_worker_that_does_not_start_is_an_error_in_one_line(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(workers.UserError, match=r"a worker .* has ended with 1: "):
        workers.started(1, 1).__enter__()
