"""How a benchmark ends: a line of JSON, and a file of it where one is asked for.

README and docs quote the files in benchmarks/results, which are written so.
"""

import argparse
import datetime
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli, files
from common.errors import UserError
from common.project import ROOT

FOLDER = ROOT / "benchmarks/results"
_DIGEST = "sha256"  # of the rest: figures that a person has changed are not ours


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark, with --output in it.

    Args:
      module: what stands behind "python -m"; the benchmark's name follows "benchmarks."
      doc: the module's docstring.
    """
    parser = cli.parser(module, doc)
    parser.add_argument(
        "--output",
        type=functools.partial(_output, module.partition(".")[2]),
        metavar="FILE",
        help="write the JSON here, too, as benchmarks/results has it",
    )
    return parser


def publish(report: Mapping[str, Any], output: str | None) -> None:
    """Print a report as one line of JSON, and write the file that was asked for.

    Args:
      report: "benchmark", the name of the script; "machine"; "versions";
        "does_not_show"; and what was measured.
      output: a path, or None.
    """
    print(json.dumps(_dated(report)))
    if output is not None:
        keep(report, output)


def keep(report: Mapping[str, Any], output: str) -> None:
    """Write the file that was asked for, with today's date, and print nothing.

    Args:
      report: as `publish` takes it.
      output: a path.
    """
    write(output, _dated(report))


def _dated(report: Mapping[str, Any]) -> dict[str, Any]:
    return {**report, "date": datetime.date.today().isoformat()}


def write(path: str | Path, report: Mapping[str, Any]) -> None:
    """Write a report for people and for `load`, whole or not at all.

    Raises:
      UserError: something else stands there.
      OSError: the file cannot be written.
    """
    is_ours = functools.partial(_is_ours, report["benchmark"])
    files.write_bytes(path, _text(report), is_ours=is_ours)


def load(path: Path, benchmark: str | None = None) -> dict[str, Any]:
    """Return the report of a file.

    Args:
      path: of it.
      benchmark: that has written it; None: the file is called so.

    Raises:
      UserError: there is none, or it is not as a benchmark has written it.
    """
    benchmark = benchmark or path.stem
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise UserError(
            f"there is no {where}; python -m benchmarks.{benchmark} --output={where}"
        ) from error
    if not _is_ours(benchmark, data):
        raise UserError(
            f"{path} is not as python -m benchmarks.{benchmark} has written it; run it "
            "again, or take back what was changed"
        )
    report = json.loads(data)
    del report[_DIGEST]
    return report


def _text(report: Mapping[str, Any]) -> bytes:
    """Return a report as a file has it: keys in the benchmark's order, digest last."""
    digest = files.digest(_json(report))
    return _json({**report, _DIGEST: digest})


def _json(report: Mapping[str, Any]) -> bytes:
    return json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n"


def _is_ours(benchmark: str, data: bytes) -> bool:
    """Whether a benchmark has written this, and nobody has changed it since."""
    try:
        report = json.loads(data)
        del report[_DIGEST]
        return report["benchmark"] == benchmark and data == _text(report)
    except (ValueError, KeyError, TypeError):
        return False


def _output(benchmark: str, text: str) -> str:
    """Return a path that may be written to; known before an hour of work."""
    path = cli.path(text)
    if not Path(path).parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {Path(path).parent}")
    try:
        files.refuse_foreign(path, functools.partial(_is_ours, benchmark))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path
