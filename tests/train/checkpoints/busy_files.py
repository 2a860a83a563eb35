"""A process that writes, reads and deletes in gs://run while that bucket fails.

    python -m tests.train.checkpoints.busy_files FAULT ...

prints JSON: for each fault and each thing to do how that ended, and with which line.
"""

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from common import gfiles
from common.errors import Restart, UserError
from common.storage_errors import translated
from tests.input_pipeline.busy_reads import ask
from train.checkpoints import bundle, directory
from train.fault_tolerance import heartbeat
from train.telemetry.writers import JsonLines

RUN = "gs://run/one"
VALUES = {"step": np.array(20), "kernel": np.arange(6.0)}
FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "uploads": [{"op": "start|upload|insert", "do": "503"}],
    "breaks": [{"op": "start|upload|insert", "do": "drop"}],
    "renames": [{"op": "rewrite", "do": "503"}],
    "composes": [{"op": "compose", "do": "503"}],
    "deletes": [{"op": "delete", "do": "429"}],
    "lists": [{"op": "list", "do": "503"}],
    "stats": [{"op": "stat", "do": "503"}],
    "reads": [{"op": "read", "do": "503"}],
    "all": [{"do": "503"}],
    "all refused": [{"do": "403"}],
    "all anonymous": [{"do": "401"}],
    "uploads refused": [{"op": "start|upload|insert", "do": "403"}],
}


def write_line() -> None:
    lines = JsonLines(f"{RUN}/metrics.jsonl")
    lines.add({"kind": "train", "step": 1, "text": uuid.uuid4().hex})
    lines.flush()


ACTIONS: dict[str, Callable[[], Any]] = {
    "write": lambda: bundle.write(VALUES, RUN),
    "copy": lambda: bundle.copy(f"{RUN}/ckpt-10", f"{RUN}/best"),
    "read": lambda: bundle.read(f"{RUN}/ckpt-10"),
    "delete": lambda: bundle.delete(f"{RUN}/ckpt-5"),
    "steps": lambda: directory.list_checkpoints(RUN),
    "stale": lambda: bundle.remove_stale(RUN),
    "text": lambda: gfiles.write_text(f"{RUN}/operative_config.gin", "a"),
    "text there": lambda: gfiles.read_text(f"{RUN}/run.json"),
    "remove": lambda: gfiles.remove(f"{RUN}/old.json"),
    "folder": lambda: gfiles.make_folder(f"{RUN}/new/{uuid.uuid4().hex}"),
    "line": write_line,
    "heartbeats": lambda: heartbeat.strangers(RUN),
}
NO_BUCKET: dict[str, Callable[[], Any]] = {
    "folder": lambda: gfiles.make_folder("gs://typo/run"),
    "text": lambda: gfiles.write_text("gs://typo/run/a", "a"),
}


def prepare() -> None:
    """Put there what the actions read and delete."""
    ask("faults", [])
    for step in (5, 10):
        bundle.write({**VALUES, "step": np.array(step)}, RUN)
    for name in ("run.json", "old.json", "hosts/host-0.json"):
        gfiles.write_text(f"{RUN}/{name}", '{"host": 0, "pid": 1}')
    write_line()


def met(action: Callable[[], Any]) -> tuple[str, str]:
    try:
        with translated():
            action()
    except Restart as error:
        return "Restart", str(error)
    except UserError as error:  # of any kind
        return "UserError", str(error)
    except Exception as error:
        return f"unexpected {type(error).__name__}", str(error)
    return "done", ""


def main(faults: list[str]) -> None:
    """Print how each action ended under each fault."""
    found = {}
    for fault in faults:
        actions = NO_BUCKET if fault == "no bucket" else ACTIONS
        if actions is ACTIONS:
            prepare()
        ask("faults", FAULTS.get(fault, []))
        found[fault] = {name: met(action) for name, action in actions.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
