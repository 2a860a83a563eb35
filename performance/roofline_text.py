"""What `performance.roofline` says to people."""

from collections.abc import Iterator, Mapping, Sequence

from common.console import table, wrap
from performance.analysis import RooflineRow
from performance.devices import Hardware

COMMAND = "performance.roofline"  # its pictures say so, too
_HEAD = (
    *("network", "W GFLOP", "Q MB", "I", "ideal ms", "by layer", "estimated", "E"),
    *("bound", "memory-bound"),
)
_LEGEND = (
    "W: FLOPs, two for each multiply-accumulate. Q: bytes of activations and weights, "
    "each layer's read and written once; weights in float32 and pixels in uint8 as in "
    "the program that is served. Batch norm, activation functions and "
    "squeeze-and-excite's product count as fused; so does the residual's sum, which "
    "still reads its other operand. I = W / Q.",
    "ideal: W / min(I * bandwidth, peak) of the whole network. by layer: the sum of "
    "the layers' own ideals. memory-bound: share of W in layers below the ridge.",
)
_ESTIMATED = (
    "estimated: XLA's TPU compiler's cycles by the clock, not a measurement: ratios of "
    "similar networks are good to 6-8 %, milliseconds are not. E = ideal / estimated; "
    "it passes 1 where the compiler keeps activations on the chip.",
    "Of the layers in the CSV: a fusion counts for the layer of its root. A depthwise "
    "convolution's time often has the expansion in front of it in it, which then has "
    "none of its own (fused_into). What belongs to no layer, such as copies into other "
    "layouts, is a row of kind other in its part.",
)


def text(
    networks: Sequence[RooflineRow],
    hardware: Hardware,
    dtype: str,
    *,
    failed: Mapping[str, str],
    reason: str,
) -> str:
    """Return a table of networks, and what its columns mean.

    Args:
      networks: their rows.
      hardware: the device.
      dtype: of the arithmetic.
      failed: why there is no estimate of some, by network.
      reason: why there is none at all, or "".
    """
    rows = table([_HEAD, *map(_cells, networks)], right=True)
    notes = _notes(hardware, dtype, failed, reason)
    return "\n".join([*rows, "", *(wrap(note, indent=" " * 4) for note in notes)])


def _cells(row: RooflineRow) -> list[str]:
    return [
        row.network,
        f"{row.flops / 1e9:.2f}",
        f"{row.bytes / 1e6:.0f}",
        f"{row.intensity:.1f}",
        f"{row.ideal_seconds * 1e3:.2f}",
        f"{row.ideal_seconds_by_layer * 1e3:.2f}",
        _number(row.estimated_seconds, 1e3),
        _number(row.efficiency),
        row.bound,
        f"{row.memory_bound_flops / row.flops:.0%}",
    ]


def _number(value: float | None, factor: float = 1) -> str:
    return "-" if value is None else f"{value * factor:.2f}"


def _notes(
    hardware: Hardware, dtype: str, failed: Mapping[str, str], reason: str
) -> Iterator[str]:
    for name, why in failed.items():
        yield f"{name} is not estimated: {why.rstrip('.')}."
    peak, bandwidth = hardware.peak(dtype), hardware.bytes_per_second
    yield (
        f"{hardware.name}: {hardware.device}, {peak / 1e12:g} TFLOP/s in {dtype}, "
        f"{bandwidth / 1e9:g} GB/s, ridge at {peak / bandwidth:.0f} FLOPs per byte "
        f"({hardware.source})."
    )
    yield from _LEGEND
    yield from [f"Not estimated: {reason}."] if reason else _ESTIMATED
