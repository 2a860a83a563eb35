"""How far a network can be from its hardware's roof, and what holds it down.

    python -m performance.roofline --hardware=tpu-v3 --batch=64 --output=DIR
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
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import names, positive
from models.complexity import BYTES
from models.errors import ModelError
from models.variants import Variant, get_variant
from performance import compile_requests, devices
from performance.analysis import Row, analyse
from performance.attribution import Estimate, estimate
from performance.devices import Hardware, HardwareError
from performance.roofline_text import text
from performance.segments import Form
from tpu_compiler import Compiler, CompilerError, Report

_FILES = ("roofline.csv", "roofline.png", "latency.png")
_WORKERS = 2  # compilations at once


def write_csv(path: Path, rows: Iterable[Row], conditions: Mapping[str, Any]) -> None:
    """Write the rows with the conditions in front; empty is what is not known."""
    table = [{**conditions, **_columns(row)} for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def _columns(row: Row) -> dict[str, Any]:
    """Return what the CSV says of a row, the units in the names."""
    return {
        "network": row.network,
        "level": row.level,
        "part": row.part,
        "layer": row.name,
        "kind": row.kind,
        "w_flops": row.flops,
        "q_bytes": row.bytes,
        "intensity_flops_per_byte": row.intensity,
        "ridge_flops_per_byte": row.ridge,
        "bound": row.bound,
        "ideal_flops_per_second": row.ideal_flops,
        "ideal_ms": row.ideal_seconds * 1e3,
        "ideal_ms_layer_by_layer": row.ideal_seconds_by_layer * 1e3,
        "memory_bound_flops": row.memory_bound_flops,
        "estimated_ms": _scaled(row.estimated_seconds, 1e3),
        "achieved_flops_per_second": row.achieved_flops,
        "efficiency": row.efficiency,
        "fused_into": row.fused_into,
    }


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m performance.roofline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument(
        "--variants", type=names, required=True, help="names, separated by commas"
    )
    parser.add_argument(
        "--hardware", default="tpu-v3", help=", ".join(devices.HARDWARE)
    )
    parser.add_argument(
        "--batch", type=positive, default=64, help="images at a time on one device"
    )
    parser.add_argument("--dtype", choices=list(BYTES), default="bfloat16")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="for roofline.csv, roofline.png and latency.png",
    )
    parser.add_argument(
        "--no_estimate",
        action="store_true",
        help="arithmetic alone: ask no TPU compiler, which takes a minute a network",
    )
    return parser.parse_args(argv)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the compiler says of some networks.

    Attributes:
        estimates: by network.
        refused: why there is none of a network, by network.
        why_not: why none was even asked for, or "".
    """

    estimates: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    why_not: str = ""


def _find(
    variants: Sequence[Variant], hardware: Hardware, arguments: argparse.Namespace
) -> _Found:
    """Estimate all networks, as far as that is possible."""
    if arguments.no_estimate:
        return _Found(why_not="by --no_estimate")
    if hardware.topology is None:
        return _Found(why_not="there is no model of a GPU's latency here")
    try:
        compiler = Compiler(_WORKERS)
    except CompilerError as error:
        return _Found(why_not=str(error))
    form = Form(batch=arguments.batch, dtype=arguments.dtype)
    found = _Found()
    with compiler:
        asked = [
            compile_requests.whole(one, compiler, hardware.topology, form)
            for one in variants
        ]
        for variant, future in zip(variants, asked, strict=True):
            try:
                report = future.result()
            except CompilerError as error:
                found.refused[variant.name] = str(error)
                continue
            if report.compiled:
                found.estimates[variant.name] = estimate(variant, report)
            else:
                found.refused[variant.name] = _refusal(report)
    return found


def _refusal(report: Report) -> str:
    """Return why a network has no estimate, and what helps."""
    if report.verdict == "out_of_memory":
        return f"it {report.message}; a smaller batch may fit"
    return (
        f"{report.message} ({report.location})" if report.location else report.message
    )


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Make a folder to write to; what it holds at the end moves to the real one."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".roofline-", dir=folder) as name:
        aside = Path(name)
        yield aside
        for path in sorted(aside.iterdir()):
            os.replace(path, folder / path.name)


def _run(arguments: argparse.Namespace) -> int:
    """Analyse, write the files and print the table; return the exit status."""
    from performance import plots  # loads matplotlib

    variants = [get_variant(name) for name in arguments.variants]
    hardware = devices.find(arguments.hardware)
    conditions = {"batch": arguments.batch, "dtype": arguments.dtype}
    for variant in variants:  # refused before anything is compiled
        analyse(variant, hardware, **conditions)
    with _aside(arguments.output) as aside:
        found = _find(variants, hardware, arguments)
        rows = [
            row
            for one in variants
            for row in analyse(
                one, hardware, estimate=found.estimates.get(one.name), **conditions
            )
        ]
        conditions = {"hardware": hardware.name, **conditions}
        title = "{hardware}, batch {batch}, {dtype}".format(**conditions)
        write_csv(aside / _FILES[0], rows, conditions)
        plots.roofline(aside / _FILES[1], rows, title)
        plots.latency(aside / _FILES[2], rows, title)
    networks = (row for row in rows if row.level == "network")
    print(
        text(
            networks,
            hardware,
            arguments.dtype,
            refused=found.refused,
            why_not=found.why_not,
        )
    )
    print(f"Written to {arguments.output}: {', '.join(_FILES)}")
    return 1 if found.refused else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parse(argv)
    try:
        return _run(arguments)
    except (ModelError, HardwareError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or arguments.output
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    # Die of a closed pipe in silence, as other tools do: `... | head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
