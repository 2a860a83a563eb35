"""What a run on a slice survives, and how many messages it takes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from launch.rehearsal import workers
from tests.support import processes, rehearsals

MADE_UP = "tests/data/train/made_up.gin"  # the same on any number of hosts


def test_the_state_is_made_and_restored_at_once(digits):
    """Handles are made one by one, by the core; values come in one function."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.eager_ops", "2", str(digits)],
        env={**os.environ, "TPU_NAME": "local"},
        stdout=subprocess.PIPE,
        check=True,
    )
    counts = json.loads(ended.stdout)
    assert counts["wrong copies"] == []
    restored = counts["restore"]
    assert restored.pop("RestoreV2") == 1  # here: a checkpoint is read once
    assert sum(restored.values()) == 1
    made = counts["create"]
    assert made.pop("VarHandleOp") == 2 * (counts["variables"] + 4)  # and four seeds
    assert not made.keys() & {"AssignVariableOp", "ReadVariableOp", "Identity"}
    assert sum(name.startswith("__inference") for name in made) == 1


@contextlib.contextmanager
def training(digits, folder, *, minutes=10.0, hosts=2, **changes):
    """A client of two hosts of one core, and their workers."""
    with workers.started(hosts, 1) as found:
        client = rehearsals.start(
            "tpu",
            1,
            digits,
            folder,
            gin_file=MADE_UP,
            tpu_name=found.tpu_name,
            hang_timeout_minutes=minutes,
            **{"epochs": 400, "steps_per_loop": 1, **changes},
        )
        try:
            yield client, found
        finally:
            client.kill()


def first_loop(client, folder):
    """Wait until a loop is reported."""
    path = folder / "metrics.jsonl"
    while not (path.exists() and '"train"' in path.read_text()):
        assert client.poll() is None, client.communicate()[1]
        time.sleep(0.1)


def heartbeat(folder):
    return json.loads((folder / "hosts" / "host-0.json").read_text())


@pytest.mark.slow
def test_a_worker_that_is_lost(digits, tmp_path):
    with training(digits, tmp_path) as (client, found):
        first_loop(client, tmp_path)
        found.processes[1].kill()
        said = rehearsals.end(client, 75, timeout=60)
    [line] = [line for line in said.splitlines() if " is gone (" in line]
    assert line.startswith(
        f"worker 1 at 127.0.0.1:{found.ports[1]} (Connection refused)"
    )
    assert heartbeat(tmp_path)["state"] == "stopped"


@pytest.mark.slow
def test_a_worker_that_freezes(digits, tmp_path):
    """The first call of the program has four times as long; no other has."""
    with training(digits, tmp_path, minutes=0.5) as (client, found):
        first_loop(client, tmp_path)
        found.processes[1].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        said = rehearsals.end(client, 75, timeout=120)
    assert time.monotonic() - began < 60
    assert "the timeout is 30 s" in said
    suspect = f"suspect: of the TPU, worker 1 at 127.0.0.1:{found.ports[1]} (timed out)"
    assert suspect in said.splitlines()
    assert heartbeat(tmp_path)["state"] == "hung"


@pytest.mark.slow
def test_a_worker_that_is_not_there_yet(digits, tmp_path):
    [port] = processes.free_ports(1)
    client = rehearsals.start(
        "tpu", 1, digits, tmp_path, tpu_name=f"grpc://127.0.0.1:{port}"
    )
    assert client.stderr is not None
    lines = (line for line in client.stderr if "waiting for" in line)
    assert next(lines) == (
        f"TPU 'grpc://127.0.0.1:{port}': waiting for worker 0 at 127.0.0.1:{port} "
        "(Connection refused)\n"
    )
    client.send_signal(signal.SIGTERM)
    said = rehearsals.end(client, 75, timeout=60)
    assert f"stopped while waiting for worker 0 at 127.0.0.1:{port}" in said
    assert heartbeat(tmp_path)["state"] == "stopped"


@pytest.mark.slow
def test_sigterm_saves_and_new_workers_end_at_the_same_bits(digits, tmp_path):
    several = {"epochs": 0.4, "steps_per_loop": 5}
    with training(digits, tmp_path / "stopped", **several) as (client, _):
        first_loop(client, tmp_path / "stopped")
        client.send_signal(signal.SIGTERM)
        said = rehearsals.end(client, 75)
    assert "stopped by SIGTERM at step " in said
    with training(digits, tmp_path / "stopped", **several) as (client, _):
        rehearsals.end(client)
    with training(digits, tmp_path / "whole", **several) as (client, _):
        rehearsals.end(client)
    assert rehearsals.differing(tmp_path / "stopped", tmp_path / "whole") == []
