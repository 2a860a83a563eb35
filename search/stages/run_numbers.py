"""What the runs of a search have cost, and how they went, from their plain files.

Imports no framework. The time of a training is that of its steps: a process that
starts, traces and compiles for half a minute to train for ten seconds would make every
short training look dear, and a search of many short ones lose by how it is started.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS, SUMMARY = "metrics.jsonl", "summary.json"
_POLICY = "policy_"
_POINTS = 400  # of a curve in a report


@dataclasses.dataclass(frozen=True)
class Cost:
    """What trainings have cost.

    Attributes:
      images: that went through a training step.
      seconds: of these steps, start and evaluation left out, of all devices together: a
        slice is not cheaper for being as fast as many.
    """

    images: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.images + other.images, self.seconds + other.seconds)


def cost(model_dir: Path) -> Cost:
    """Return what a run has cost so far.

    A loop in which a process began has no time of its own in the file, as it compiled:
    it counts as long as the others of the run.
    """
    images, timed, seconds = 0, 0.0, 0.0
    for row in loops(model_dir):
        images = max(images, _number(row, "images_seen"))
        rate, steps = _number(row, "images_per_second"), _number(row, "steps")
        if rate and steps and _number(row, "step"):
            size = _number(row, "images_seen") / _number(row, "step")
            timed += steps * size
            seconds += steps * size / rate
    seconds *= max(1, _number(summary(model_dir), "devices"))
    return Cost(round(images), images * seconds / timed if timed else 0.0)


def loops(model_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the loops of training steps of a run; what cannot be read is left out."""
    for row in _lines(model_dir / METRICS):
        if row.get("kind") == "train":
            yield row


def history(model_dir: Path) -> list[dict[str, Any]]:
    """Return how a supernet's policy went, in at most some hundred points.

    Returns:
      Of each point "step", "top1" and "loss" of training, and what the policy says,
      without its prefix: numbers, and lists of numbers.
    """
    rows = list(loops(model_dir))
    every = max(1, -(-len(rows) // _POINTS))
    kept = [row for i, row in enumerate(rows) if i % every == 0 or row is rows[-1]]
    return [_point(row) for row in kept]


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        name.removeprefix(_POLICY): value
        for name, value in row.items()
        if name.startswith(_POLICY)
    }
    return {**{name: row.get(name) for name in ("step", "top1", "loss")}, **named}


def line(model_dir: Path, steps: int | None) -> str:
    """Return how far a run is, in words; "" where it has not begun."""
    last: dict[str, Any] = {}
    for last in loops(model_dir):  # noqa: B007
        pass
    if not last:
        return ""
    of_all = f" of {steps:,}" if steps else ""
    parts = [f"step {_number(last, 'step'):,}{of_all}"]
    if (top1 := last.get("top1")) is not None:
        parts.append(f"top-1 {100 * top1:.1f} % of the last batches")
    for name, value in _point(last).items():
        if name not in ("step", "top1", "loss") and isinstance(value, int | float):
            parts.append(f"{name.replace('_', ' ')} {value:.4g}")
    return ", ".join(parts)


def summary(model_dir: Path) -> dict[str, Any]:
    """Return the summary of a run, {} where it has none yet."""
    try:
        found = json.loads((model_dir / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def total(model_dirs: Iterable[Path]) -> Cost:
    """Return what several runs have cost."""
    return sum(map(cost, model_dirs), start=Cost())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError:
        return
    for text in data.splitlines():
        try:
            found = json.loads(text)
        except ValueError:  # half written
            continue
        if isinstance(found, dict):
            yield found


def _number(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    return value if isinstance(value, int | float) else 0
