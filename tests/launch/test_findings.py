"""Before a slice is there; and how many messages its state takes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support import processes, rehearsals


@pytest.mark.long
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
    heartbeat = json.loads((tmp_path / "hosts/host-0.json").read_text())
    assert heartbeat["state"] == "stopped"
