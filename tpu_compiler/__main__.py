"""Compile a StableHLO module for a TPU, without a TPU.

    python -m tpu_compiler step.stablehlo --topology v3:2x2x1 --replicas 8

Prints whether it compiles and fits, its memory, collectives and the costliest
instructions. Exit status: 0 compiles and fits, 1 does not, 2 there is no answer.
"""

import argparse
import dataclasses
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import cli, files
from common.errors import Status, UserError
from tpu_compiler import service
from tpu_compiler.report import CompilerReport

_COSTLIEST = 10
_WEAK = (
    "estimated: a fair guide to the ratio of two similar programs, not to milliseconds"
)


def describe(report: CompilerReport) -> dict[str, Any]:
    """Return a report ready for JSON, of its instructions the costliest."""
    memory, costs = report.memory, report.costs
    return {
        "verdict": report.verdict,
        "message": report.message,
        "op": report.op,
        "location": report.location,
        "topology": str(report.topology),
        "num_replicas": report.num_replicas,
        "versions": report.versions,
        "seconds": round(report.seconds, 3),
        "from_cache": report.from_cache,
        "cycles": report.cycles,
        "milliseconds": report.milliseconds,
        "hbm_bytes": report.hbm_bytes,
        "needed_bytes": report.needed_bytes,
        "memory": dataclasses.asdict(memory) if memory else None,
        "largest_buffers": [dataclasses.asdict(b) for b in report.largest_buffers],
        "collectives": [dataclasses.asdict(c) for c in report.collectives],
        "uncosted": costs.without_estimate if costs else None,
        "unknown_loops": list(costs.unknown_loops) if costs else None,
        "costliest": [dataclasses.asdict(i) for i in report.costliest(_COSTLIEST)],
        "hlo_path": str(report.hlo_path) if report.hlo_path else None,
    }


def lines(report: CompilerReport) -> Iterator[str]:
    """Yield a report for people."""
    blame = " at ".join(filter(None, [report.op, report.location]))
    yield f"{report.verdict}: {report.message}" + (f": {blame}" if blame else "")
    yield (
        f"for {report.topology}, {report.num_replicas} replica(s); "
        + ", ".join(f"{name} {version}" for name, version in report.versions.items())
        + f"; {report.seconds:.1f} s"
        + (" (from the cache)" if report.from_cache else "")
    )
    for buffer in report.largest_buffers:
        yield f"{_mib(buffer.bytes)}  {buffer.shape}  {buffer.location}"
    if report.costs is None or report.memory is None:
        return
    yield f"{report.milliseconds:.3f} ms, {report.cycles} cycles ({_WEAK})"
    for name in report.costs.unknown_loops:
        yield f"  the rounds of {name} are not known: counted once"
    if report.costs.without_estimate:
        each = report.costs.without_estimate.items()
        listed = (f"{count} {op}" for op, count in each)
        yield f"  not in it, for want of an estimate: {', '.join(listed)}"
    yield f"{_mib(report.memory.total)} of {_mib(report.hbm_bytes)} HBM a device"
    for kind, size in dataclasses.asdict(report.memory).items():
        yield f"  {_mib(size)}  {kind.replace('_', ' ')}"
    for group in report.collectives:
        yield (
            f"{group.count} {group.kind} among {group.group_size} replicas, "
            f"{group.operand_bytes} bytes"
        )
    yield from _table(report)


def _table(report: CompilerReport) -> Iterator[str]:
    yield "costliest instructions"
    for one in report.costliest(_COSTLIEST):
        share = one.total_cycles / max(1, report.cycles or 0)
        times = f" x {one.repeats}" if one.repeats > 1 else ""
        yield f"  {share:6.1%}  {one.name}{times}  {one.op_name}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tpu_compiler", __doc__)
    add = parser.add_argument
    add("module", type=cli.path, help="a file of StableHLO")
    add("--topology", required=True, help="such as v3:4x4 or v5e:2x2")
    add("--replicas", type=int, default=1, help="default: 1")
    add("--json", action="store_true", help="print JSON")
    add("--hlo", type=cli.path, help="write the optimised HLO there")
    add("--cache_dir", type=cli.path, help="of answers given before")
    add("--timeout", type=float, default=3600.0, help="seconds; default: an hour")
    return parser


def _marked(hlo: bytes) -> bytes:
    """Return HLO with a comment in front: who wrote it, and that nobody changed it."""
    line = f"// Written by python -m tpu_compiler; sha256 below: {files.digest(hlo)}\n"
    return line.encode() + hlo


def _is_ours(data: bytes) -> bool:
    return data == _marked(data.partition(b"\n")[2])


def _check_place(path: str) -> None:
    """Refuse a place where no file may be written, before the work is done."""
    files.refuse_foreign(path, _is_ours)
    folder = Path(path).parent
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder} for --hlo; make it, or name another"
        )


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    if arguments.hlo:
        _check_place(arguments.hlo)
    report = service.compile(
        Path(arguments.module).read_bytes(),
        arguments.topology,
        arguments.replicas,
        timeout_seconds=arguments.timeout,
        cache_dir=arguments.cache_dir and Path(arguments.cache_dir),
        name=arguments.module,
    )
    if arguments.hlo and report.hlo_path:
        hlo = _marked(gzip.decompress(report.hlo_path.read_bytes()))
        files.write_bytes(arguments.hlo, hlo, is_ours=_is_ours)
    if arguments.json:
        print(json.dumps(describe(report), indent=2))
    else:
        print("\n".join(lines(report)))
    return Status.OK if report.compiled else Status.NO


if __name__ == "__main__":
    sys.exit(main())
