"""How far a network can be from its hardware's roof, and what holds it down.

    python -m search.roofline --hardware=tpu-v3 --batch=64 --output=DIR
        --variants=efficientnet-b0,efficientnet-x-b0

The analysis of "Searching for Fast Model Families on Datacenter Accelerators" (CVPR
2021), section 2, for inference on one device. W are the floating point operations of a
layer, a block or a network, Q the bytes that it reads from memory and writes to it:

    operational intensity    I       = W / Q
    ideal compute            C_ideal = min(I * bandwidth, peak)
    achieved compute         C       = W / latency
    execution efficiency     E       = C / C_ideal
    latency                          = W / (C_ideal * E)

W and Q are arithmetic (`search.layers`). The latency of blocks and networks on a TPU is
the estimate of XLA's TPU compiler, where it is installed; of a GPU it is not known
here, and so neither is E.
"""

import argparse
import csv
import signal
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.variants import ModelError, Variant, get_variant
from search import hardware as devices
from search.analysis import BYTES, Row, analyse, estimate
from search.hardware import Hardware, HardwareError
from tpu_compiler import Compiler, CompilerError

_WIDTH = 100


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
    }


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


_LINE = "{:<22}  {:>8}  {:>7}  {:>6}  {:>8}  {:>8}  {:>9}  {:>5}  {:<7}  {:>12}"
_LEGEND = (
    "W: FLOPs, two for each multiply-accumulate. Q: bytes of activations and weights, "
    "each layer's read and written once; batch norm, activation functions, "
    "squeeze-and-excite's product and the residual's sum count as fused. I = W / Q.",
    "ideal: W / min(I * bandwidth, peak) of the whole network. by layer: the sum of "
    "the layers' own ideals. memory-bound: share of W in layers below the ridge.",
)
_ESTIMATED = (
    "estimated: XLA's TPU compiler's cycles by the clock, not a measurement: ratios of "
    "similar networks are good to 6-8 %, milliseconds are not. E = ideal / estimated; "
    "it passes 1 where the compiler keeps activations on the chip."
)


def table(networks: Iterable[Row]) -> str:
    """Return the rows of networks as a table for people."""
    header = _LINE.format(
        *("network", "W GFLOP", "Q MB", "I", "ideal ms", "by layer", "estimated"),
        *("E", "bound", "memory-bound"),
    )
    return "\n".join([header, *map(_line, networks)])


def _line(row: Row) -> str:
    return _LINE.format(
        row.network,
        f"{row.flops / 1e9:.2f}",
        f"{row.bytes / 1e6:.0f}",
        f"{row.intensity:.1f}",
        f"{row.ideal_seconds * 1e3:.2f}",
        f"{row.ideal_seconds_by_layer * 1e3:.2f}",
        _number(_scaled(row.estimated_seconds, 1e3)),
        _number(row.efficiency),
        row.bound,
        f"{row.memory_bound_flops / row.flops:.0%}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _notes(hardware: Hardware, dtype: str, why_not: str) -> str:
    peak, bandwidth = hardware.peak(dtype), hardware.bytes_per_second
    device = (
        f"{hardware.name}: {hardware.device}, {peak / 1e12:g} TFLOP/s in {dtype}, "
        f"{bandwidth / 1e9:g} GB/s, ridge at {peak / bandwidth:.0f} FLOPs per byte "
        f"({hardware.source})."
    )
    estimated = f"Not estimated: {why_not}." if why_not else _ESTIMATED
    return "\n".join(
        textwrap.fill(note, _WIDTH, subsequent_indent=" " * 4, break_on_hyphens=False)
        for note in (device, *_LEGEND, estimated)
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.roofline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def positive(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
        return int(text)

    def names(text: str) -> list[str]:
        found = dict.fromkeys(filter(None, map(str.strip, text.split(","))))
        if not found:
            raise argparse.ArgumentTypeError("no name given")
        return list(found)

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


def _estimates(
    variants: Sequence[Variant], hardware: Hardware, arguments: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], str]:
    """Return the estimates by network, or why there are none."""
    if arguments.no_estimate:
        return {}, "by --no_estimate"
    if hardware.topology is None:
        return {}, "there is no model of a GPU's latency here"
    try:
        compiler = Compiler()
    except CompilerError as error:
        return {}, str(error)
    options = {"batch": arguments.batch, "dtype": arguments.dtype}
    with compiler:
        return {
            variant.name: estimate(variant, hardware.topology, compiler, **options)
            for variant in variants
        }, ""


def _run(arguments: argparse.Namespace) -> None:
    """Analyse, write the files and print the table."""
    variants = [get_variant(name) for name in arguments.variants]
    hardware = devices.find(arguments.hardware)
    hardware.peak(arguments.dtype)  # to refuse it before anything is compiled
    arguments.output.mkdir(parents=True, exist_ok=True)
    estimates, why_not = _estimates(variants, hardware, arguments)
    conditions = {"batch": arguments.batch, "dtype": arguments.dtype}
    rows = [
        row
        for variant in variants
        for row in analyse(
            variant, hardware, estimates=estimates.get(variant.name), **conditions
        )
    ]
    from search import plots  # loads matplotlib

    conditions = {"hardware": hardware.name, **conditions}
    title = "{hardware}, batch {batch}, {dtype}".format(**conditions)
    write_csv(arguments.output / "roofline.csv", rows, conditions)
    plots.roofline(arguments.output / "roofline.png", rows, title)
    plots.latency(arguments.output / "latency.png", rows, title)
    print(table(row for row in rows if row.level == "network"))
    print(f"\n{_notes(hardware, arguments.dtype, why_not)}")
    print(f"Written to {arguments.output}: roofline.csv, roofline.png, latency.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parse(argv)
    try:
        _run(arguments)
    except (ModelError, HardwareError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or arguments.output
        print(f"error: cannot write {where}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # Die of a closed pipe in silence, as other tools do: `... | head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
