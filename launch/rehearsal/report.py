"""What a rehearsal has found, for a person and for another program."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from common.console import count, wrap
from launch.rehearsal.workers import SliceShape

LEAVES_OUT = (
    "the TPU's bridge: which operations compile, shapes that depend on values, what "
    "stays on the host. python -m preflight compiles the steps for a TPU",
    "libtpu, the memory of the chips (HBM), their links (ICI), the speed of all that",
    "numerics: a TPU multiplies in bfloat16, and XLA adds in another order",
    "batches of the size that is meant, and all but the first files that are scored",
    "other machines: their disks, clocks, networks, permissions and versions",
)


@dataclasses.dataclass
class Report:
    """Of a rehearsal.

    Attributes:
      on: the slice.
      rehearsed: what was done, by the point.
      refused: what a slice would refuse, a line each.
      notes: what a person should know besides.
      tensorflow: its version.
    """

    on: SliceShape
    tensorflow: str
    rehearsed: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def describe(report: Report) -> str:
    """Return the whole report as lines of text."""
    on = report.on
    lines = [
        f"{count(on.hosts, 'host')} x {count(on.cores, 'core')}: TPUStrategy of "
        f"TensorFlow {report.tensorflow} on CPUs",
        *_points(report.rehearsed),
    ]
    if report.refused:
        lines += ["A slice would refuse:", *_items(report.refused)]
    else:
        lines += ["Nothing was found that such a slice would refuse."]
    lines += [wrap(f"Note: {note}") for note in report.notes]
    return "\n".join([*lines, "Not rehearsed:", *_items(LEAVES_OUT)])


def _points(rehearsed: Mapping[str, str]) -> Sequence[str]:
    return [wrap(f"{point}: {what}") for point, what in rehearsed.items()]


def _items(lines: Sequence[str]) -> list[str]:
    return [wrap(f"- {line}") for line in lines]


def to_json(report: Report) -> dict[str, Any]:
    """Return the whole report, ready for JSON."""
    return {
        **dataclasses.asdict(report.on),
        "replicas": report.on.replicas,
        "refused": report.refused,
        "rehearsed": report.rehearsed,
        "notes": report.notes,
        "not_rehearsed": LEAVES_OUT,
        "tensorflow": report.tensorflow,
    }
