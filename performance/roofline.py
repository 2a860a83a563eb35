r"""How far a network can be from its hardware's roof, and what holds it down.

    python -m performance.roofline --hardware=tpu-v3 --batch=64 --output=DIR \
      --variants=efficientnet-b0,efficientnet-x-b0

The analysis of "Searching for Fast Model Families on Datacenter Accelerators" (CVPR
2021), section 2, for inference on one device. W are the floating point operations of a
layer, a block or a network, Q the bytes that it reads from memory and writes to it:

    operational intensity    I       = W / Q
    ideal compute            C_ideal = min(I * bandwidth, peak)
    achieved compute         C       = W / latency
    execution efficiency     E       = C / C_ideal
    latency                          = W / (C_ideal * E)

W and Q are arithmetic (`layers`). The latency on a TPU is the estimate of XLA's TPU
compiler, where it is installed (`attribution`); on a GPU it is not known here, and so
neither is E.

The exit status is 0 when all is well, 1 when the compiler has no estimate of a network,
as it does not fit, 2 when there is no answer.
"""

import argparse
import contextlib
import csv
import dataclasses
import functools
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import cli, extras, files
from common.cli import names, positive
from common.errors import Status, UserError
from models.complexity import BYTES
from models.variants import Variant, get_variant
from performance import compile_requests, devices
from performance.analysis import RooflineRow, analyse
from performance.attribution import Estimate, estimate
from performance.devices import Hardware
from performance.roofline_text import COMMAND, text
from performance.segments import InferenceOptions
from tpu_compiler import Compiler, CompilerError, CompilerReport

_WORKERS = 2  # compilations at once


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


# What the CSV says of a row, the units in the names.
_COLUMNS: dict[str, Callable[[RooflineRow], Any]] = {
    "network": lambda row: row.network,
    "level": lambda row: row.level,
    "part": lambda row: row.part,
    "layer": lambda row: row.name,
    "kind": lambda row: row.kind,
    "w_flops": lambda row: row.flops,
    "q_bytes": lambda row: row.bytes,
    "intensity_flops_per_byte": lambda row: row.intensity,
    "ridge_flops_per_byte": lambda row: row.ridge,
    "bound": lambda row: row.bound,
    "ideal_flops_per_second": lambda row: row.ideal_flops,
    "ideal_ms": lambda row: row.ideal_seconds * 1e3,
    "ideal_ms_layer_by_layer": lambda row: row.ideal_seconds_by_layer * 1e3,
    "memory_bound_flops": lambda row: row.memory_bound_flops,
    "estimated_ms": lambda row: _scaled(row.estimated_seconds, 1e3),
    "achieved_flops_per_second": lambda row: row.achieved_flops,
    "efficiency": lambda row: row.efficiency,
    "fused_into": lambda row: row.fused_into,
}
_HEADER = ("hardware", "batch", "dtype", *_COLUMNS)
_DIGEST = b"table_sha256"  # of all other columns, in every row as the conditions are


def write_csv(
    path: Path, rows: Iterable[RooflineRow], conditions: Mapping[str, Any]
) -> None:
    """Write the rows with the conditions in front; empty is what is not known.

    The last column is the digest of the others: what a person has changed is not ours.

    Args:
      path: of the file.
      rows: a line each.
      conditions: hardware, batch and dtype.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, _HEADER)
    writer.writeheader()
    for row in rows:
        columns = {name: value(row) for name, value in _COLUMNS.items()}
        writer.writerow({**conditions, **columns})
    path.write_bytes(_with_digest(table.getvalue().encode()))


def _with_digest(table: bytes) -> bytes:
    """Return a table with one more column."""
    head, *rows = table.splitlines()
    digest = files.digest(table).encode()
    lines = [b"%b,%b\r\n" % (row, digest) for row in rows]
    return b"%b,%b\r\n" % (head, _DIGEST) + b"".join(lines)


def _is_our_csv(data: bytes) -> bool:
    lines = (line.rpartition(b",")[0] for line in data.splitlines())
    table = b"".join(line + b"\r\n" for line in lines)
    header = ",".join(_HEADER).encode() + b"\r\n"
    return table.startswith(header) and data == _with_digest(table)


_is_our_png = functools.partial(files.is_our_png, command=COMMAND)
# What is written, and how it is known.
_FILES = {
    "roofline.csv": _is_our_csv,
    "roofline.png": _is_our_png,
    "latency.png": _is_our_png,
}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(COMMAND, __doc__)
    add = parser.add_argument
    add("--variants", type=names, required=True, help="names, separated by commas")
    add("--hardware", default="tpu-v3", help=", ".join(devices.HARDWARE))
    add("--batch", type=positive, default=64, help="images at a time on one device")
    add(
        "--dtype",
        choices=list(BYTES),
        help="default: bfloat16, float16 where the hardware has none",
    )
    add(
        "--output",
        type=cli.path,
        required=True,
        metavar="DIR",
        help="for roofline.csv, roofline.png and latency.png",
    )
    add(
        "--no_estimate",
        action="store_true",
        help="arithmetic alone: ask no TPU compiler, which takes a minute a network",
    )
    return parser


@dataclasses.dataclass(frozen=True)
class NetworkEstimates:
    """What the compiler says of some networks.

    Attributes:
      by_network: those that there are.
      failed: why there is none of a network, by network.
      reason: why none was even asked for, or "".
    """

    by_network: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    reason: str = ""


def estimate_all(
    variants: Sequence[Variant], hardware: Hardware, *, batch: int, dtype: str
) -> NetworkEstimates:
    """Estimate networks by the TPU's compiler, as far as that is possible.

    Args:
      variants: the networks.
      hardware: the device.
      batch: images at a time on the device.
      dtype: of the arithmetic.
    """
    if hardware.topology is None:
        return NetworkEstimates(reason="there is no model of a GPU's latency here")
    try:
        compiler = Compiler(_WORKERS)
    except CompilerError as error:
        return NetworkEstimates(reason=str(error))
    options = InferenceOptions(batch=batch, dtype=dtype)
    found = NetworkEstimates()
    with compiler:
        requests = [
            compile_requests.network(one, compiler, hardware.topology, options)
            for one in variants
        ]
        for variant, future in zip(variants, requests, strict=True):
            try:
                report = future.result()
            except CompilerError as error:
                found.failed[variant.name] = str(error)
                continue
            if report.compiled:
                found.by_network[variant.name] = estimate(variant, report)
            else:
                found.failed[variant.name] = _why(report)
    return found


def _why(report: CompilerReport) -> str:
    """Return why a network has no estimate, and what helps."""
    if report.verdict == "out_of_memory":
        return f"it {report.message}; a smaller batch may fit"
    return (
        f"{report.message} ({report.location})" if report.location else report.message
    )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[tuple[Path, ...]]:
    """Lend paths to write the files to; at the end they get their names, all of them.

    Raises:
      UserError: a file cannot be written, or one of its name is not ours. That nothing
        can is known before the block.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            paths = tuple(
                stack.enter_context(files.writing(folder / name, is_ours=is_ours))
                for name, is_ours in _FILES.items()
            )
            paths[0].touch()
            yield paths
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: {error.strerror or error}"
        ) from error


def _usual_dtype(hardware: Hardware) -> str:
    """Return the first of two bytes that the hardware computes in."""
    halves = "bfloat16", "float16"
    return next((dtype for dtype in halves if dtype in hardware.peak_flops), "float32")


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Analyse, write the files and print the table."""
    variants = [get_variant(name) for name in arguments.variants]
    extras.require("matplotlib", task=COMMAND)
    hardware = devices.find(arguments.hardware)
    dtype = arguments.dtype or _usual_dtype(hardware)
    conditions = {"batch": arguments.batch, "dtype": dtype}
    for variant in variants:  # refused before anything is compiled
        analyse(variant, hardware, **conditions)
    with _writing(Path(arguments.output)) as (table, roofline, latency):
        from performance import plots  # loads matplotlib

        if arguments.no_estimate:
            found = NetworkEstimates(reason="by --no_estimate")
        else:
            found = estimate_all(variants, hardware, **conditions)
        rows = [
            row
            for one in variants
            for row in analyse(
                one, hardware, estimate=found.by_network.get(one.name), **conditions
            )
        ]
        conditions = {"hardware": hardware.name, **conditions}
        title = "{hardware}, batch {batch}, {dtype}".format(**conditions)
        write_csv(table, rows, conditions)
        plots.roofline(roofline, rows, title)
        plots.latency(latency, rows, title)
    print(
        text(
            [row for row in rows if row.level == "network"],
            hardware,
            dtype,
            failed=found.failed,
            reason=found.reason,
        )
    )
    print(f"Written to {arguments.output}: {', '.join(_FILES)}")
    return Status.NO if found.failed else Status.OK


if __name__ == "__main__":
    sys.exit(main())
