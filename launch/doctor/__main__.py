"""Look before a job is submitted: what would keep it from starting or ending well?

    python -m launch.doctor --job=launch/jobs/v5e_32.yaml
    python -m launch.doctor --job=job.yaml --node=NAME      of one that runs, too

A line for each check: ok, fails with what mends it, or unknown with why. Nothing is
changed anywhere. Exit status: 0 nothing fails, 1 something does, 2 a mistake.
"""

import argparse
import collections
import json
import re
import signal
import sys
from pathlib import Path

from common import cli, console
from common.errors import Status, UserError
from launch.doctor import report
from launch.doctor.case import Case
from launch.doctor.findings import Outcome
from launch.engines.engine import NAMES

_NODE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("launch.doctor", __doc__)
    parser.add_argument(
        "--job", type=cli.path, required=True, metavar="FILE", help="the job file"
    )
    parser.add_argument(
        "--to",
        choices=NAMES,
        default=NAMES[0],
        help="the engine that is to run it (%(default)s)",
    )
    parser.add_argument(
        "--node", type=_name, help="a TPU VM of the job that runs already"
    )
    parser.add_argument(
        "--offline", action="store_true", help="ask nobody but this machine"
    )
    parser.add_argument(
        "--no_preflight",
        dest="preflight",
        action="store_false",
        help="do not compile the steps, which takes minutes",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON list instead of text"
    )
    return parser


def _name(text: str) -> str:
    if not _NODE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a TPU VM")
    return text


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Print what each check finds; the status says whether one fails."""
    # So that SIGTERM, too, ends what compiles.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    case = Case(
        path=_readable(arguments.job),
        asks=not arguments.offline,
        engine=arguments.to,
        compiles=arguments.preflight,
        node=arguments.node or "",
    )
    # Slow to import.
    from launch.doctor.checks import diagnose

    rows, outcomes = [], collections.Counter()
    for row in diagnose(case):
        rows.append(row)
        outcomes[row.finding.outcome] += 1
        if not arguments.json:
            print(report.line(row), flush=True)
    if arguments.json:
        print(json.dumps([report.to_json(row) for row in rows]))
    console.say(", ".join(f"{outcomes[one]} {one}" for one in Outcome))
    return Status.NO if outcomes[Outcome.FAILS] else Status.OK


def _readable(path: str) -> str:
    """Return a path of a file that is there."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the job file {path}: {error.strerror}") from error
    return path


if __name__ == "__main__":
    sys.exit(main())
