"""Which processes make up a run, and how they meet."""

import contextlib
import json
import signal
import socket

import pytest

from common.errors import Restart, UserError
from tests.support import processes
from train.distribution import cluster, waiting
from train.distribution.cluster import Cluster

TWO = ["a:1", "b:2"]


def config(workers: object = TWO, kind: object = "worker", index: object = 0, **others):
    jobs = {"worker": workers, **others}
    return {"cluster": jobs, "task": {"type": kind, "index": index}}


def found(monkeypatch, value):
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv("TF_CONFIG", text)
    return cluster.find("multi_worker")


@pytest.mark.parametrize(
    ("value", "addresses", "number"),
    [
        (config(), ("a:1", "b:2"), 0),
        (config(index=1), ("a:1", "b:2"), 1),
        (config(index="1"), ("a:1", "b:2"), 1),
        (config(["a:1"]), ("a:1",), 0),
        (config(chief=["c:3"]), ("c:3", "a:1", "b:2"), 1),
        (config(chief=["c:3"], kind="chief"), ("c:3", "a:1", "b:2"), 0),
        (config(["[::1]:1", "10.0.0.1:65535"]), ("[::1]:1", "10.0.0.1:65535"), 0),
        ({**config(), "environment": "cloud"}, ("a:1", "b:2"), 0),
    ],
)
def test_who_makes_up_a_run(monkeypatch, value, addresses, number):
    assert found(monkeypatch, value) == Cluster(addresses, number)


def test_one_process_by_itself(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "nobody reads it")
    alone = cluster.find("one_device")
    assert (alone.count, alone.number, alone.is_chief) == (1, 0, True)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("", "strategy 'multi_worker' needs TF_CONFIG"),
        (" \n", "strategy 'multi_worker' needs TF_CONFIG"),
        ("{", "TF_CONFIG is not JSON (Expecting property name"),
        ("worker", "TF_CONFIG is not JSON (Expecting value"),
        ("9" * 5000, "TF_CONFIG is not JSON (Exceeds the limit"),
        (config(index="9" * 5000), "TF_CONFIG has '9999"),
        ("\ufeff{}", "TF_CONFIG is not JSON (Unexpected UTF-8 BOM"),
        ("{'cluster': {}}", "TF_CONFIG is not JSON (Expecting property name"),
        ("[" * 100_000, "TF_CONFIG is not JSON (it is nested too deeply)"),
        ([], "TF_CONFIG is []; it has to be an object"),
        (None, "TF_CONFIG is None; it has to be an object"),
        ("3", "TF_CONFIG is 3; it has to be an object"),
        ({}, "TF_CONFIG.cluster is missing"),
        ({"cluster": ["a:1"]}, "TF_CONFIG.cluster is ['a:1']; it has to be an object"),
        ({"cluster": {}}, "TF_CONFIG names no worker in cluster.worker"),
        (config([]), "TF_CONFIG names no worker in cluster.worker"),
        (config(None), "has None for cluster.worker, which is no list"),
        (config("a:1"), "has 'a:1' for cluster.worker, which is no list"),
        (config({"0": "a:1"}), "for cluster.worker, which is no list"),
        (config(["a"]), "has 'a' for cluster.worker[0], which is no host:port"),
        (config(["a:1", "b:"]), "has 'b:' for cluster.worker[1], which is no"),
        (config([":1"]), "has ':1' for cluster.worker[0], which is no"),
        (config(["a:0"]), "has 'a:0' for cluster.worker[0], which is no"),
        (config(["a:65536"]), "has 'a:65536' for cluster.worker[0], which is no"),
        (config(["a:-1"]), "has 'a:-1' for cluster.worker[0], which is no"),
        (config(["a:x"]), "has 'a:x' for cluster.worker[0], which is no"),
        (config(["a b:1"]), "has 'a b:1' for cluster.worker[0], which is no"),
        (config(["grpc://a:1"]), "has 'grpc://a:1' for cluster.worker[0], which is"),
        (config(["::1:1"]), "has '::1:1' for cluster.worker[0], which is no"),
        (config([1]), "has 1 for cluster.worker[0], which is no host:port"),
        (config(["a:1", "a:1"]), "TF_CONFIG names 'a:1' twice in cluster"),
        (config(chief=["a:1"]), "TF_CONFIG names 'a:1' twice in cluster"),
        (config(chief=["c:1", "d:1"]), "names more than one cluster.chief"),
        (config(ps=["c:1"]), "names 'ps' in cluster, where strategy 'multi_worker'"),
        (config(evaluator=["c:1"]), "names 'evaluator' in cluster, where"),
        ({"cluster": {"worker": TWO}}, "TF_CONFIG.task is missing"),
        ({"cluster": {"worker": TWO}, "task": [0]}, "TF_CONFIG.task is [0]; it has"),
        (config(kind="ps"), "has 'ps' for task.type, and cluster names 'worker'"),
        (config(kind="chief"), "has 'chief' for task.type, and cluster names 'worker'"),
        (config(kind=None), "has None for task.type"),
        (config(kind=["worker"]), "has ['worker'] for task.type"),
        (
            config(index=2),
            "has 2 for task.index, and the workers of cluster are 0 to 1",
        ),
        (config(index=-1), "has -1 for task.index"),
        (config(index=None), "has None for task.index"),
        (config(index=True), "has True for task.index"),
        (config(index=0.0), "has 0.0 for task.index"),
        (config(index="x"), "has 'x' for task.index"),
        (config(index="-1"), "has '-1' for task.index"),
    ],
)
def test_what_tf_config_says_wrongly(monkeypatch, value, what):
    with pytest.raises(UserError) as raised:
        found(monkeypatch, value)
    assert what in str(raised.value)
    assert "TF_CONFIG" in str(raised.value)
    assert str(raised.value).endswith('"task": {"type": "worker", "index": 0}}\'')


@contextlib.contextmanager
def ports(count, *, listening=()):
    """Addresses of this machine; at some of them somebody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for number, one in enumerate(sockets):
            one.bind(("127.0.0.1", 0))
            if number in listening:
                one.listen()
        addresses = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
        for number, one in enumerate(sockets):
            if number not in listening:
                one.close()
        yield addresses


class Stop:
    """Stops whoever waits, after so many looks at it."""

    def __init__(self, looks):
        self.looks = looks

    def __call__(self):
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.001)


def test_says_at_once_and_again_for_whom_it_waits(fast, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "_SAY_SECONDS", 0.0)
    with ports(3, listening=[2]) as addresses:
        absent = f"process 1 at {addresses[1]} (Connection refused)"
        with pytest.raises(Restart) as raised:
            cluster.meet(Cluster(addresses, 0), Stop(2))
    assert str(raised.value) == f"stopped while waiting for {absent}"
    assert (
        capsys.readouterr().err.splitlines()
        == [
            f"process 0 of 3 waits for {absent}; start it there with the same "
            "TF_CONFIG but for its task"
        ]
        * 2
    )


def test_says_it_once_a_minute(fast, capsys):
    with ports(2) as addresses, pytest.raises(Restart):
        cluster.meet(Cluster(addresses, 0), Stop(5))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("no-such-host.invalid:1", "Name or service not known"),
        ("a..b:1", "no name of a host"),
        (f"{'x' * 70}:1", "no name of a host"),
    ],
)
def test_a_host_that_is_none(fast, capsys, monkeypatch, address, why):
    def unknown(host, *_, **__):
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(cluster, "_warn_of_a_strange_address", lambda *_: None)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with ports(1) as addresses, pytest.raises(Restart):
        cluster.meet(Cluster((*addresses, address), 0), Stop(1))
    assert f"waits for process 1 at {address} ({why})" in capsys.readouterr().err


def test_goes_on_when_all_answer(fast, monkeypatch):
    said = []
    with ports(3, listening=[1]) as addresses, contextlib.ExitStack() as stack:

        def say(line):
            """Start the one that is waited for, as a person would."""
            if not said:
                port = int(addresses[2].rpartition(":")[2])
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            said.append(line.partition(";")[0])

        monkeypatch.setattr(waiting, "say", say)
        monkeypatch.setattr(cluster, "say", say)
        cluster.meet(Cluster(addresses, 0))
    assert said == [
        f"process 0 of 3 waits for process 2 at {addresses[2]} (Connection refused)",
        "all 3 processes of TF_CONFIG answer",
    ]


def test_nobody_to_wait_for(capsys):
    cluster.meet(Cluster())
    cluster.meet(Cluster(("a:1",), 0))
    with ports(2, listening=[0]) as addresses:
        cluster.meet(Cluster(addresses, 1))
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken():
    with ports(2, listening=[0, 1]) as addresses, pytest.raises(UserError) as raised:
        cluster.meet(Cluster(addresses, 0))
    assert str(raised.value) == (
        f"cannot listen at port {addresses[0].rpartition(':')[2]} of "
        f"'{addresses[0]}', the address that TF_CONFIG gives this process: Address "
        "already in use; end what holds the port, or name another in the TF_CONFIG of "
        "every process"
    )


def test_an_address_of_another_machine(capsys):
    """It may be right: behind a translation of addresses."""
    with ports(2, listening=[1]) as addresses:
        port = addresses[0].rpartition(":")[2]
        cluster.meet(Cluster((f"198.51.100.7:{port}", addresses[1]), 0))
    assert capsys.readouterr().err == (
        f"warning: TF_CONFIG: this process is said to be at '198.51.100.7:{port}', no "
        "address of this machine: is task.index right?\n"
    )


@pytest.mark.slow
def test_who_waits_posts_a_heartbeat_and_obeys_sigterm(digits, tmp_path):
    changes = {"experiment.Experiment.strategy": "multi_worker"}
    with ports(2) as addresses:
        task = {"type": "worker", "index": 0}
        text = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [
            "env",
            f"TF_CONFIG={text}",
            *processes.command(digits, tmp_path, changes),
        ]
        with processes.started(command) as [process]:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("process 0 of 2 waits for ")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert said.splitlines()[1] == (
        f"stopped while waiting for process 1 at {addresses[1]} (Connection refused); "
        "the same command goes on"
    )
    beat = json.loads((tmp_path / "hosts" / "host-0.json").read_text())
    assert (beat["state"], beat["phase"]) == (
        "stopped",
        "waiting for the devices and the other processes",
    )
