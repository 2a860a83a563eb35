"""What the code costs as data, runs and searches grow: JSON, and exponents.

    python -m benchmarks.growth --output=benchmarks/results/growth.json

Everything is made up: records, classes, files, hosts, steps, trials. Each part that
handles them is given more and more; printed are seconds of CPU, memory that Python and
numpy take, and p of a cost that grows as size^p. What is done once for each trial
counts with all of them.

Exit status: 0 nothing grows faster than size^1.2, 1 something does, 2 there is no
answer. Takes some five minutes of one core.
"""

import argparse
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.support import machine, results
from common import cli
from common.console import say
from common.errors import Status

if TYPE_CHECKING:
    from benchmarks.support.growth.case import Case

# A sort of n has n log n comparisons: a factor of 100 from 10^5 on is size^1.08. The
# rest is for caches that what is small fits into.
LINEAR = 1.2
ROOMS = ("data", "runs", "searches")
_DOES_NOT_SHOW = (
    "memory that TensorFlow's kernels take; disks and networks, of which seconds of "
    "CPU say nothing; how good the made-up data are"
)


def cases(rooms: tuple[str, ...] | list[str] = ROOMS) -> "list[Case]":
    """Return everything that is measured."""
    from benchmarks.support.growth import data, runs, searches

    of_room = {"data": data.cases, "runs": runs.cases, "searches": searches.cases}
    return [case for room in rooms for case in of_room[room]()]


def measure(chosen: "list[Case]", most_seconds: float) -> list[dict[str, Any]]:
    """Return the report of each case, and say its line."""
    from benchmarks.support.growth import case as measuring

    found = []
    for number, case in enumerate(chosen, 1):
        with tempfile.TemporaryDirectory() as folder:
            one = measuring.measure(case, Path(folder), most_seconds)
        found.append(one)
        last = one["rows"][-1]
        say(
            f"{number} of {len(chosen)}: {case.axis}: {case.name}: "
            f"size^{one['exponent']:.2f}; {last['seconds']:.3g} s and "
            f"{last['megabytes']:.3g} MB of {last['size']:,}"
        )
    return found


def is_linear(one: dict[str, Any]) -> bool:
    """Whether neither time, nor memory, nor work grows faster than it should."""
    names = ("exponent", "exponent_of_memory", "exponent_of_work")
    return all(one.get(name, 0.0) <= LINEAR for name in names)


def _rooms(text: str) -> list[str]:
    rooms = cli.names(text)
    if unknown := set(rooms) - set(ROOMS):
        raise argparse.ArgumentTypeError(f"{unknown.pop()} is none of {ROOMS}")
    return rooms


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.growth", __doc__)
    parser.add_argument(
        "--rooms", type=_rooms, default=list(ROOMS), help=f"of {','.join(ROOMS)}"
    )
    parser.add_argument(
        "--most_seconds",
        type=cli.number(above=0),
        default=6.0,
        help="sizes that would take longer are left out (%(default)s)",
    )
    return parser


@cli.command(_parser)
def main(options: argparse.Namespace) -> Status:
    """Measure, and print what grows how."""
    hardware = machine.describe()
    found = measure(cases(options.rooms), options.most_seconds)
    report = {
        "benchmark": "growth",
        "cases": found,
        "linear": LINEAR,
        "machine": hardware,
        "versions": {
            name: metadata.version(name) for name in ("tensorflow", "numpy", "optuna")
        },
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, options.output)
    return Status.OK if all(map(is_linear, found)) else Status.NO


if __name__ == "__main__":
    sys.exit(main())
