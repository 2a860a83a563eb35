"""A network under the roof of a device, by layers, blocks and as a whole."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from models.complexity import BYTES
from models.errors import require
from models.scaling import block_specs
from models.variants import Variant
from performance.attribution import Estimate
from performance.devices import Hardware
from performance.layers import Layer, layers

# Of an activation. What is served takes its variables in float32 and the image's pixels
# in uint8 whatever the dtype of the arithmetic.
_WEIGHT_BYTES, _PIXEL_BYTES = 4, 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RooflineRow:
    """A layer, a block or a network under the roof of a device.

    Attributes:
      network: name of the variant.
      level: what the row is about.
      part: "stem", "block_0", ..., "head"; "" for the network, and for what takes
        time and is not named by the compiler.
      name: of the layer; "" for the others, and for what else a part does.
      kind: of the layer, see `layers`; "other" for what takes time in a part
        and is no layer, such as a copy; of a part "stem", "depthwise", "fused" or
        "head"; "" for the network.
      flops: W, two for each multiply-accumulate, of the whole batch.
      bytes: Q, of the whole batch.
      ideal_seconds: W / C_ideal.
      ideal_seconds_by_layer: the same, summed over the layers: what is left of the
        ideal when the layers run one after another.
      memory_bound_flops: those of the layers that are bound by memory.
      peak_flops: of the device, a second.
      bytes_per_second: of the device's memory.
      estimated_seconds: by the TPU's compiler, None where it does not tell. Those of
        the layers add up to the blocks' and the network's.
      fused_into: the layer, as block_1/depthwise, whose fusion computes this one; it
        has the time of both.
    """

    network: str
    level: Literal["layer", "block", "network"]
    part: str = ""
    name: str = ""
    kind: str = ""
    flops: int
    bytes: int
    ideal_seconds_by_layer: float
    memory_bound_flops: int
    peak_flops: float
    bytes_per_second: float
    estimated_seconds: float | None = None
    fused_into: str = ""

    @property
    def intensity(self) -> float:
        """I, FLOPs per byte; 0 where nothing is computed."""
        return self.flops / self.bytes if self.flops else 0.0

    @property
    def ridge(self) -> float:
        """The least intensity that the device's peak can be reached with."""
        return self.peak_flops / self.bytes_per_second

    @property
    def bound(self) -> Literal["memory", "compute"]:
        """What bounds the ideal compute."""
        return "memory" if self.intensity < self.ridge else "compute"

    @property
    def ideal_flops(self) -> float:
        """C_ideal, FLOP/s."""
        return min(self.intensity * self.bytes_per_second, self.peak_flops)

    @property
    def ideal_seconds(self) -> float:
        """W / C_ideal; by the bytes alone for a layer that only moves them."""
        return max(self.flops / self.peak_flops, self.bytes / self.bytes_per_second)

    @property
    def achieved_flops(self) -> float | None:
        """C, FLOP/s; None where no latency is known."""
        return self.flops / self.estimated_seconds if self.estimated_seconds else None

    @property
    def efficiency(self) -> float | None:
        """E; None where no latency is known, or nothing is there to compare it with."""
        if not (self.estimated_seconds and self.bytes):
            return None
        return self.ideal_seconds / self.estimated_seconds


def analyse(
    variant: Variant,
    hardware: Hardware,
    *,
    batch: int,
    dtype: str = "bfloat16",
    estimate: Estimate | None = None,
) -> tuple[RooflineRow, ...]:
    """Put a network under the roof of a device.

    Args:
      variant: the network.
      hardware: the device.
      batch: images at a time on the device, 1 or more.
      dtype: of the arithmetic and the activations: "bfloat16", "float16" or
        "float32".
      estimate: of the time that the network takes there, where it is known.

    Returns:
      Rows of all layers, then of the blocks (stem and head among them), then of the
      network.

    Raises:
      ModelError: the variant cannot be built, or the batch is out of range.
      HardwareError: the device has no known peak for the dtype.
    """
    require(batch >= 1, f"batch must be 1 or more, not {batch}")
    roof = {
        "network": variant.name,
        "peak_flops": hardware.peak(dtype),
        "bytes_per_second": hardware.bytes_per_second,
    }
    rows = [_layer_row(layer, batch, BYTES[dtype], roof) for layer in layers(variant)]
    if estimate is not None:
        rows = [*(_timed(row, estimate) for row in rows), *_others(estimate, roof)]
    blocks = [
        _sum(
            [row for row in rows if row.part == part],
            roof,
            level="block",
            part=part,
            kind=kind,
        )
        for part, kind in _kinds_of_parts(variant)
    ]
    return (*rows, *blocks, _sum(rows, roof, level="network"))


def _layer_row(
    layer: Layer, batch: int, activation_bytes: int, roof: Any
) -> RooflineRow:
    input_bytes = _PIXEL_BYTES if layer.kind == "stem" else activation_bytes
    moved = (
        layer.input_elements * input_bytes + layer.output_elements * activation_bytes
    )
    row = RooflineRow(
        level="layer",
        part=layer.part,
        name=layer.name,
        kind=layer.kind,
        flops=2 * layer.macs * batch,
        bytes=moved * batch + layer.weights * _WEIGHT_BYTES,
        ideal_seconds_by_layer=0,
        memory_bound_flops=0,
        **roof,
    )
    return dataclasses.replace(
        row,
        ideal_seconds_by_layer=row.ideal_seconds,
        memory_bound_flops=row.flops if row.bound == "memory" else 0,
    )


def _timed(row: RooflineRow, estimate: Estimate) -> RooflineRow:
    """Return the row of a layer with its time."""
    layer = row.part, row.name
    return dataclasses.replace(
        row,
        estimated_seconds=estimate.seconds(layer),
        fused_into="/".join(estimate.fused.get(layer, ())),
    )


def _others(estimate: Estimate, roof: Any) -> Iterator[RooflineRow]:
    """Yield the rows of what takes time and belongs to no layer."""
    for part, name in estimate.cycles:
        if not name:
            yield RooflineRow(
                level="layer",
                part=part,
                kind="other",
                flops=0,
                bytes=0,
                ideal_seconds_by_layer=0,
                memory_bound_flops=0,
                estimated_seconds=estimate.seconds((part, name)),
                **roof,
            )


def _sum(rows: Sequence[RooflineRow], roof: Any, **fields: Any) -> RooflineRow:
    """Return the row of several layers together."""
    return RooflineRow(
        flops=sum(row.flops for row in rows),
        bytes=sum(row.bytes for row in rows),
        ideal_seconds_by_layer=sum(row.ideal_seconds_by_layer for row in rows),
        memory_bound_flops=sum(row.memory_bound_flops for row in rows),
        # None if no layer has any.
        estimated_seconds=sum(row.estimated_seconds or 0 for row in rows) or None,
        **roof,
        **fields,
    )


def _kinds_of_parts(variant: Variant) -> Iterator[tuple[str, str]]:
    yield "stem", "stem"
    for i, block in enumerate(block_specs(variant)):
        yield f"block_{i}", "fused" if block.fused else "depthwise"
    yield "head", "head"
