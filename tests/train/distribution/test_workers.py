"""The workers of a slice: found, waited for, asked."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import types
import urllib.error

import cloud_tpu_client
import pytest
import tensorflow as tf

from common.errors import Restart, UserError
from train.distribution import strategies, waiting, workers
from train.distribution.workers import Slice
from train.fault_tolerance import graph_errors


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(waiting, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(workers, "_driven", None)
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v4-32")


@contextlib.contextmanager
def listening(*, answers, said=b"\0\0\0\4\0\0\0\0\0"):
    """Address where the kernel takes calls; somebody answers them, or nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    call = server.accept()[0]
                    assert call.recv(64).startswith(b"PRI * HTTP/2.0")
                    call.sendall(said)
                    call.close()

        if answers:
            threading.Thread(target=serve, daemon=True).start()
        yield address
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "addresses", "accelerator"),
    [
        ("local", [], "v4-32"),
        (
            "grpc://10.255.0.2:8471,grpc://b.invalid",
            ["10.255.0.2:8471", "b.invalid:8470"],
            "",
        ),
        ("grpc://10.255.0.2, 10.255.0.3:1", ["10.255.0.2:8470", "10.255.0.3:1"], ""),
        ("grpc://127.0.0.1:5", ["127.0.0.1:5"], "v4-32"),
    ],
)
def test_found_by_address(name, addresses, accelerator):
    """The environment tells of the chips of this machine alone."""
    found = workers.find(name)
    assert list(found.addresses.values()) == addresses
    assert list(found.addresses) == [f"worker {n}" for n in range(len(addresses))]
    assert found.accelerator == accelerator


def test_one_worker_by_two_names_is_a_mistake():
    with pytest.raises(UserError, match="names grpc://a:8470 twice"):
        workers.find("grpc://a,grpc://b,grpc://a:8470")


@pytest.mark.parametrize(
    "name", ["grpc://", "grpc://a:b", "grpc://a:1,", "grpc://a:70000", "grpc://a:1/b"]
)
def test_no_address(name):
    with pytest.raises(UserError, match="no list of addresses as in grpc://10"):
        workers.find(name)


class HttpError(Exception):
    """As googleapiclient's."""

    def __init__(self, status):
        super().__init__(f"<HttpError {status}>")
        self.resp = types.SimpleNamespace(status=str(status))


def refusal(status):
    """As `cloud_tpu_client` raises what the API answers."""
    try:
        try:
            raise HttpError(status)
        except HttpError:
            raise ValueError(f"Could not lookup TPU metadata: {status}")  # noqa: B904
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError('TPU "x" is not yet ready; state: "CREATING"'), Restart),
        (
            RuntimeError("Missing runtime dependency on the Google API client"),
            UserError,
        ),
        (refusal(403), UserError),
        (refusal(404), UserError),
        (refusal(429), Restart),
        (refusal(503), Restart),
        (urllib.error.URLError("no metadata server"), UserError),
    ],
)
def test_not_found_by_name(monkeypatch, error, kind):
    def client(name):
        raise error

    monkeypatch.setattr(cloud_tpu_client, "Client", client)
    with pytest.raises(kind, match=r"^TPU 'x' \(\$TPU_NAME\): ") as raised:
        workers.find("x")
    assert str(error) in str(raised.value)
    assert ("as in grpc://10.0.0.2:8470" in str(raised.value)) == (kind is UserError)


def test_found_by_name(monkeypatch):
    ends = [{"ipAddress": "10.0.0.2", "port": "8470"}]
    client = types.SimpleNamespace(
        network_endpoints=lambda: ends, accelerator_type=lambda: "v3-8"
    )
    monkeypatch.setattr(cloud_tpu_client, "Client", lambda name: client)
    assert workers.find("x") == Slice("x", {"worker 0": "10.0.0.2:8470"}, "v3-8")


@pytest.mark.long
def test_who_is_lost():
    """One that has stopped is told from one that lives, though its port is open."""
    with listening(answers=True) as alive, listening(answers=False) as frozen:
        here, dead = {"worker 0": alive, "worker 1": frozen}, refused()
        with pytest.raises(Restart, match="stopped while waiting for worker 1 at "):
            workers.wait(Slice("x", here), lambda: True)
        assert (workers.lost(), workers.describe(), workers.addresses()) == ("", "", [])
        workers.wait(Slice("x", {"worker 0": alive}, "v3-8"))
        assert workers.lost() == ""
        assert workers.describe() == "every worker of the TPU answers"
        assert workers.accelerator_type() == "v3-8"
        workers._driven = Slice("x", here | {"worker 2": dead})
        missing = (
            f"worker 1 at {frozen} (timed out); worker 2 at {dead} (Connection refused)"
        )
        assert workers.lost() == missing
        assert workers.describe() == f"suspect: of the TPU, {missing}"
        # Of one that does not answer nobody knows whether it will.
        assert workers.gone() == f"worker 2 at {dead} (Connection refused)"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.0 400 Bad request syntax", "what answers is no gRPC"),
        (b"SSH-2.0", "what answers is no gRPC"),
        (b"", "it hangs up"),
        (b"\0\0", "it hangs up"),
    ],
)
def test_another_service_is_no_worker(said, why):
    with listening(answers=True, said=said) as address:
        assert workers.why_silent(address) == why


def test_nobody_waits_for_ever(monkeypatch, capsys):
    monkeypatch.setattr(workers, "_LIMIT_SECONDS", 0.01)
    address = refused()
    monkeypatch.setenv("TPU_NAME", f"grpc://{address}")
    with pytest.raises(Restart, match=rf"no answer for \d+ s: worker 0 at {address} "):
        strategies.make_strategy("tpu")
    assert capsys.readouterr().err == (
        f"TPU 'grpc://{address}': waiting for worker 0 at {address} (Connection "
        "refused)\n"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (tf.errors.UnavailableError(None, None, "Socket closed"), Restart),
        (tf.errors.NotFoundError(None, None, "no TPU devices"), UserError),
        (tf.errors.InternalError(None, None, "no TPU"), UserError),
        (RuntimeError("no TPU"), UserError),
    ],
)
def test_a_tpu_that_is_not_there_yet(monkeypatch, error, kind):
    def fails(*_):
        raise error

    monkeypatch.setenv("TPU_NAME", "local")
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fails)
    with pytest.raises(kind, match="cannot reach TPU 'local': "):
        strategies.make_strategy("tpu")


def test_a_tensorflow_without_tpus_is_named_in_short(monkeypatch):
    def fails(*_):
        raise tf.errors.NotFoundError(
            None,
            None,
            "TPUs not found in the cluster. Failed in initialization: No OpKernel was "
            "registered to support Op 'ConfigureDistributedTPU' used by with these "
            "attrs: [is_global_init=false]\nRegistered devices: [CPU]",
        )

    monkeypatch.setenv("TPU_NAME", "local")
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fails)
    with pytest.raises(UserError) as raised:
        strategies.make_strategy("tpu")
    assert str(raised.value) == (
        "cannot reach TPU 'local': TPUs not found in the cluster. Failed in "
        "initialization: No OpKernel was registered to support Op "
        "'ConfigureDistributedTPU'. Is this TensorFlow one for TPUs (make setup "
        "ACCELERATOR=tpu)?"
    )


def test_an_internal_error_is_a_lost_worker_where_one_is_silent():
    error = tf.errors.InternalError(None, None, "Connection reset by peer\nmore")
    with pytest.raises(tf.errors.InternalError), graph_errors.translate_errors():
        raise error
    address = refused()
    workers._driven = Slice("x", {"worker 0": address})
    with pytest.raises(Restart) as raised, graph_errors.translate_errors():
        raise error
    assert str(raised.value) == (
        f"worker 0 at {address} (Connection refused) is gone (Connection reset by "
        "peer); all processes have to be started again"
    )


@pytest.mark.long
def test_tensorflow_s_own_service_answers_and_stopped_does_not(monkeypatch):
    program = (
        "import tensorflow as tf, time\n"
        "spec = tf.train.ClusterSpec({'worker': ['127.0.0.1:0']})\n"
        "server = tf.distribute.Server(spec, job_name='worker', task_index=0)\n"
        "print(server.target, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().removeprefix("grpc://")
        try:
            monkeypatch.setattr(waiting, "_ANSWER_SECONDS", 60.0)
            before = workers.why_silent(address)
            monkeypatch.setattr(waiting, "_ANSWER_SECONDS", 0.5)
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)  # all of its threads
            assert (before, workers.why_silent(address)) == (None, "timed out")
        finally:
            process.kill()
