"""Rows 26 to 28: a slice that runs."""

import json
import socket

import pytest

from launch.doctor import node, tpu_client

NODE = "b0-v5e-32"
WHERE = "--zone=us-west4-a --project=my-project"
DESCRIBE = f"gcloud compute tpus tpu-vm describe {NODE} {WHERE}"


class Service:
    """What googleapiclient makes of the description of the API's v1."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def projects(self):
        return self

    locations = nodes = projects

    def get(self, name):
        self.asked.append(name)
        return self

    def execute(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def v1(monkeypatch):
    """Let cloud-tpu-client speak to a service of a test's."""
    look = tpu_client.look

    def speak(answer):
        service = Service(answer)
        monkeypatch.setattr(
            tpu_client, "look", lambda *who: look(*who, service=service)
        )
        return service

    return speak


def test_state(found, v1, google):
    service = v1({"state": "READY", "health": "HEALTHY"})
    assert found(26, node=NODE) == f"ok       TPU VM: {NODE} is READY, HEALTHY"
    name = f"projects/my-project/locations/us-west4-a/nodes/{NODE}"
    assert set(service.asked) == {name}
    google.said["node"]["serviceAccount"]["scope"] = [
        "https://.../devstorage.read_only"
    ]
    assert found(26, node=NODE) == (
        f"fails    TPU VM: {NODE} is READY, HEALTHY; its account has not the scope "
        "cloud-platform  ->  make it anew, with "
        "--scopes=https://www.googleapis.com/auth/cloud-platform"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"state": "PREEMPTED"}, f"{NODE} is PREEMPTED, None"),
        ({"state": "READY", "health": "TIMEOUT"}, f"{NODE} is READY, TIMEOUT"),
        (
            {
                "state": "READY",
                "health": "HEALTHY",
                "symptoms": [
                    {"symptomType": "LOW_MEMORY", "createTime": "2026-11-30T01:00:00Z"},
                    {
                        "symptomType": "HBM_OUT_OF_MEMORY",
                        "createTime": "2026-11-30T02:00:00Z",
                        "workerId": "3",
                    },
                ],
            },
            f"{NODE} is READY, HEALTHY: HBM_OUT_OF_MEMORY of worker 3 at "
            "2026-11-30T02:00:00Z",
        ),
    ],
)
def test_state_that_is_none(found, v1, answer, said):
    v1(answer)
    assert found(26, node=NODE) == f"fails    TPU VM: {said}  ->  {DESCRIBE}"


def test_no_state(found, v1, google):
    v1(OSError("no route"))
    said = found(26, node=NODE)
    assert said.startswith(f"unknown  TPU VM: {NODE}: Could not lookup TPU metadata")
    google.said["node"] = None
    none = "there is no TPU VM b0-v5e-32 in us-west4-a"
    assert found(26, node=NODE) == f"unknown  TPU VM: {none}"
    assert found(27, node=NODE) == f"unknown  workers: {none}"


def test_the_client_takes_our_credentials(monkeypatch):
    """It would look for others else, by a library that is no longer kept."""
    built = []

    def build(*what, credentials, **_):
        built.append((*what, credentials))
        return Service({"state": "READY"})

    monkeypatch.setattr("googleapiclient.discovery.build", build)
    mine = object()
    found = tpu_client.look(NODE, "us-west4-a", "my-project", mine)
    assert found == tpu_client.NodeState("READY", None, ())
    assert set(built) == {("tpu", "v1", mine)}


def test_ports(found, google, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(node, "WORKER", server.getsockname()[1])
        assert found(27, node=NODE).startswith("ok       workers: 1 host at port ")
        google.said["node"]["networkEndpoints"] *= 2
        assert found(27, node=NODE).startswith("ok       workers: 2 hosts at port ")
    assert found(27, node=NODE).startswith(
        f"fails    workers: no worker listens on 127.0.0.1:{node.WORKER}  ->  "
        f"gcloud compute tpus tpu-vm ssh {NODE} {WHERE} --worker=all '--command=ps -ef'"
    )
    google.said["node"]["networkEndpoints"] = []
    assert found(27, node=NODE) == (
        f"unknown  workers: no addresses of {NODE} are known"
    )


def test_ports_out_of_reach(found, monkeypatch):
    def connect(*_):
        raise TimeoutError

    monkeypatch.setattr(node.socket, "create_connection", connect)
    assert found(27, node=NODE) == (
        "unknown  workers: 127.0.0.1:8470 cannot be reached from here: ask on a host"
    )


@pytest.mark.parametrize(
    ("state", "age", "said"),
    [
        ("running", 10, "ok       heartbeat: train at step 200, running, 10 s ago"),
        (
            "running",
            200,
            "fails    heartbeat: train at step 200, running, 200 s ago  ->  the "
            "engine's "
            "log tells why: python -m launch.job logs",
        ),
        ("finished", 900, "ok       heartbeat: train at step 200, finished, 900 s ago"),
    ],
)
def test_heartbeat(found, google, state, age, said):
    beat = {"host": 0, "phase": "train", "step": 200, "state": state}
    path = "runs/b0-v5e-32/hosts/host-0.json"
    google.objects[path] = json.dumps(beat).encode(), age
    assert found(28, node=NODE) == said


@pytest.mark.parametrize("state", ["failed", "hung"])
def test_heartbeat_of_a_run_that_has_failed(found, google, state):
    beat = {"host": 0, "phase": "train", "step": 200, "state": state}
    path = "runs/b0-v5e-32/hosts/host-0.json"
    log = "  ->  the engine's log tells why: python -m launch.job logs"
    said = f"fails    heartbeat: train at step 200, {state}, 10 s ago"
    google.objects[path] = json.dumps(beat).encode(), 10
    assert found(28, node=NODE) == said + log
    beat["error"] = "UserError: gs://b refuses"
    google.objects[path] = json.dumps(beat).encode(), 10
    assert found(28, node=NODE) == f"{said}: UserError: gs://b refuses{log}"


def test_no_heartbeat(found, google):
    assert found(28, node=NODE) == (
        "unknown  heartbeat: gs://my-bucket/runs/b0-v5e-32 has no heartbeat yet"
    )
    google.objects["runs/b0-v5e-32/hosts/host-0.json"] = b"{", 1
    assert found(28, node=NODE).startswith("unknown  heartbeat: hosts/host-0.json: ")
