"""Processes that write numbers of a run in gs://run while that bucket fails.

    python -m tests.train.telemetry.growing_files FLUSHES ...

prints JSON, by case: for each number of flushes what the bucket was sent and asked for,
and what metrics.jsonl says after each fault.
"""

import json
import sys
from typing import Any

from common import gcs, gfiles
from common.errors import Restart
from tests.input_pipeline.busy_reads import ask
from train.telemetry import telemetry, writers

# Of what becomes of a flush in the middle, and how it is met the first time.
DONE = {"op": "compose", "do": "done_503", "times": 1}
BUSY = {"op": "compose", "do": "503", "times": 6}
FAULTS: dict[str, list[dict[str, Any]]] = {
    "done, and not said": [DONE],
    "busy": [BUSY],
    "done, then busy": [DONE, BUSY],
    "refused": [{"op": "compose", "do": "400"}],
    "not removed": [{"op": "delete", "do": "503", "times": 6}],
    "not sent": [{"op": "start|upload|insert", "do": "503", "times": 6}],
}


def row(step: int, kind: str = "train") -> dict[str, Any]:
    return {"kind": kind, "step": step, "time": f"{step:09d}", "text": "x" * 300}


def steps(path: str) -> list[int]:
    return [line["step"] for line in writers.read_lines(path)]


def sent(flushes: int) -> dict[str, int]:
    """What it costs to write so many lines, each at once."""
    file = writers.JsonLines(f"gs://run/{flushes}/metrics.jsonl")
    events = writers.EventFile(f"gs://run/{flushes}/train")
    file.go_back(0)
    file.flush()
    ask("reset", {})
    for step in range(1, flushes + 1):
        file.add(row(step))
        file.flush()
        events.scalars(step, {"scores/loss": 0.5})
        events.flush()
    stats = ask("stats")["ops"]
    assert steps(file.path) == [*range(1, flushes + 1)]
    (name,) = gfiles.names(events.path)
    return {
        "bytes": sum(of["received"] + of["sent"] for of in stats.values()),
        "requests": sum(of["requests"] for of in stats.values()),
        "stored": len(gcs.read(file.path) or b"")
        + len(gcs.read(f"{events.path}/{name}") or b""),
    }


def met(fault: str) -> dict[str, Any]:
    """What is there when a flush has met a fault, and the next ones have not."""
    folder, failed = f"gs://run/{fault.replace(' ', '-')}", []
    file = writers.JsonLines(f"{folder}/metrics.jsonl")
    for step in range(1, 6):
        ask("faults", FAULTS[fault] if step == 3 else [])
        file.add(row(step))
        try:
            file.flush()
        except Restart:
            failed.append(step)
    ask("faults", [])
    return {"failed": failed, "steps": steps(file.path), "names": gfiles.names(folder)}


def two_jobs() -> list[int]:
    """Both score checkpoints of one run."""
    path = "gs://run/two/eval.jsonl"
    files = [writers.JsonLines(path) for _ in range(2)]
    for step in range(1, 7):
        files[step % 2].add(row(step, "eval"))
        files[step % 2].flush()
    assert files[0].evaluations().keys() == {*range(1, 7)}
    return steps(path)


def taken_back() -> dict[str, Any]:
    """A killed process has written beyond the checkpoint that the next one takes."""
    numbers = [
        telemetry.Telemetry(
            "gs://run/back", global_batch_size=1, replicas=1, peak_teraflops=None
        )
        for _ in range(2)
    ]
    for life, first in zip(numbers, (0, 2), strict=True):
        life.start(first, "")
        for step in range(first + 1, first + 4):
            life.event(step, "x")
            life._metrics.add(row(step))
            life.flush()
    lines = writers.read_lines("gs://run/back/metrics.jsonl")
    return {
        kind: [line["step"] for line in lines if line["kind"] == kind]
        for kind in ("train", "event")
    } | {"folders": gfiles.names("gs://run/back")}


def main(flushes: list[int]) -> None:
    """Print what was found."""
    found = {
        "sent": [sent(number) for number in flushes],
        "met": {fault: met(fault) for fault in FAULTS},
        "two jobs": two_jobs(),
        "taken back": taken_back(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main([*map(int, sys.argv[1:])])
