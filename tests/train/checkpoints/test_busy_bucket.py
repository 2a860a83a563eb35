"""Checkpoints and a run's files in a bucket that fails, by TensorFlow's own client.

What is busy is a Restart, whatever was to be done; what is refused is not. Nothing
else comes of it, and none of it is called damaged.
"""

import json
import sys
from typing import Any

import pytest

from tests.support import bucket

# Which actions a fault ends, see `busy_files.ACTIONS`; the others have no need of it.
WRITES = {"write", "copy", "text", "line"}
READS = {"read", "copy", "steps", "stale", "text there", "heartbeats"}
ENDED = {
    "uploads": WRITES | {"folder"},
    "breaks": WRITES | {"folder"},
    "renames": WRITES - {"line"},
    "composes": {"line"},
    "deletes": (WRITES - {"line"}) | {"delete", "stale", "remove"},
    "lists": {"write", "read", "copy", "steps", "stale", "heartbeats"},
    "stats": READS | {"write", "line", "delete"},
    "reads": {"read", "write", "copy", "text there", "line", "heartbeats"},
    "all": WRITES | READS | {"delete", "remove", "folder"},
}
REFUSED = "the bucket refuses this account: give it a role there"


def meet(folder, *faults: str) -> dict[str, dict[str, list[str]]]:
    with bucket.serving(folder, "run", writes_per_second=0) as served:
        command = [sys.executable, "-m", "tests.train.checkpoints.busy_files", *faults]
        status, met, said = served.run(command, GCS_RETRY_CONFIG_MAX_RETRIES="2")
    assert not status, said
    return json.loads(met)


def assert_ended(met: dict[str, Any], faults: dict[str, set[str]]) -> None:
    for fault, actions in faults.items():
        for action, (end, line) in met[fault].items():
            expected = "Restart" if action in actions else "done"
            assert end == expected, (fault, action, line)
            assert end == "done" or " now: " in line or "lost: " in line, line
            assert "retry attempts" not in line


@pytest.mark.slow
def test_busy_is_no_mistake_and_no_damage(tmp_path):
    met = meet(tmp_path, "no bucket", "uploads", "lists")
    assert_ended(met, {fault: ENDED[fault] for fault in ("uploads", "lists")})
    assert met["uploads"]["write"][1] == (
        "cannot write a checkpoint to gs://run/one now: HTTP 503: injected 503"
    )
    end, line = met["no bucket"]["folder"]  # TensorFlow would look for ever
    assert end == "UserError"
    assert line.startswith("cannot make the folder gs://typo/run: HTTP 404: ")


@pytest.mark.slow
def test_every_fault_of_a_bucket(tmp_path):
    refusals = ("all refused", "all anonymous", "uploads refused")
    met = meet(tmp_path, "none", *ENDED, *refusals)
    assert {end for end, _ in met["none"].values()} == {"done"}
    assert_ended(met, ENDED)
    for action in WRITES:
        assert met["uploads refused"][action][0] == "UserError"
        assert f"HTTP 403: injected 403; {REFUSED}" in met["uploads refused"][action][1]
    # What may not be read may not be there at all.
    for action, (end, line) in met["all refused"].items():
        assert end == "UserError", (action, line)
        assert REFUSED in line or "permissions (roles/storage.objectUser" in line
    for action, (end, line) in met["all anonymous"].items():
        assert end == "Restart", (action, line)
        # Some ask by Google's own client, which would renew a token.
        lost = "refresh the access token"
        if action not in ("delete", "line"):
            lost = "now, the access token was lost: HTTP 401"
        assert lost in line
