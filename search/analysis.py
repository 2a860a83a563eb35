"""A network under the roof of a device, by layers, blocks and as a whole."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from models.scaling import block_specs
from models.variants import Variant
from search.hardware import Hardware
from search.layers import Layer, layers
from tpu_compiler import Compiler, CompilerError, Topology

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_NETWORK = "network"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A layer, a block or a network under the roof of a device.

    Attributes:
        network: name of the variant.
        level: what the row is about.
        part: "stem", "block_0", ..., "head"; "" for the network.
        name: of the layer; "" for the others.
        kind: of the layer, see `search.layers`; of a part "stem", "depthwise", "fused"
            or "head"; "" for the network.
        flops: W, two for each multiply-accumulate, of the whole batch.
        bytes: Q, of the whole batch.
        ideal_seconds: W / C_ideal.
        ideal_seconds_by_layer: the same, summed over the layers: what is left of the
            ideal when the layers run one after another.
        memory_bound_flops: those of the layers that are bound by memory.
        peak_flops: of the device, a second.
        bytes_per_second: of the device's memory.
        estimated_seconds: by the TPU's compiler, None where it does not tell.
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

    @property
    def intensity(self) -> float:
        """I, FLOPs per byte."""
        return self.flops / self.bytes

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
        """E; None where no latency is known."""
        achieved = self.achieved_flops
        return None if achieved is None else achieved / self.ideal_flops


def analyse(
    variant: Variant,
    hardware: Hardware,
    *,
    batch: int,
    dtype: str = "bfloat16",
    estimates: Mapping[str, float] | None = None,
) -> tuple[Row, ...]:
    """Put a network under the roof of a device.

    Args:
        variant: the network.
        hardware: the device.
        batch: images at a time on the device, 1 or more.
        dtype: of activations and weights: "bfloat16", "float16" or "float32".
        estimates: seconds by part and of the "network", as `estimate` returns them.

    Returns:
        Rows of all layers, then of the blocks (stem and head among them), then of the
        network.

    Raises:
        ModelError: the variant cannot be built.
        HardwareError: the device has no known peak for the dtype.
    """
    estimates = estimates or {}
    roof = {
        "network": variant.name,
        "peak_flops": hardware.peak(dtype),
        "bytes_per_second": hardware.bytes_per_second,
    }
    rows = [_layer_row(layer, batch, BYTES[dtype], roof) for layer in layers(variant)]
    blocks = [
        _sum(
            [row for row in rows if row.part == part],
            roof,
            level="block",
            part=part,
            kind=kind,
            estimated_seconds=estimates.get(part),
        )
        for part, kind in _kinds_of_parts(variant)
    ]
    network = _sum(
        rows, roof, level="network", estimated_seconds=estimates.get(_NETWORK)
    )
    return (*rows, *blocks, network)


def estimate(
    variant: Variant, topology: Topology, compiler: Compiler, *, batch: int, dtype: str
) -> dict[str, float]:
    """Return the TPU compiler's estimates in seconds, by part and of the "network".

    Raises:
        CompilerError: it has none, as when the network does not fit.
    """
    from search import latency  # loads the frameworks

    options = {"batch": batch, "dtype": dtype}
    whole = latency.whole(variant, compiler, topology, **options)
    if whole.milliseconds is None:
        raise CompilerError(
            f"{variant.name} on one device of {topology}: {whole.message}; change the "
            "batch, or ask for --no_estimate"
        )
    milliseconds = {_NETWORK: whole.milliseconds}
    for part in latency.parts(variant, compiler, topology, **options):
        milliseconds[part.name] = part.milliseconds
    return {name: ms / 1e3 for name, ms in milliseconds.items()}


def _layer_row(layer: Layer, batch: int, bytes_each: int, roof: Any) -> Row:
    activations = layer.input_elements + layer.output_elements
    row = Row(
        level="layer",
        part=layer.part,
        name=layer.name,
        kind=layer.kind,
        flops=2 * layer.macs * batch,
        bytes=bytes_each * (activations * batch + layer.weights),
        ideal_seconds_by_layer=0,
        memory_bound_flops=0,
        **roof,
    )
    return dataclasses.replace(
        row,
        ideal_seconds_by_layer=row.ideal_seconds,
        memory_bound_flops=row.flops if row.bound == "memory" else 0,
    )


def _sum(rows: Sequence[Row], roof: Any, **fields: Any) -> Row:
    """Return the row of several layers together."""
    return Row(
        flops=sum(row.flops for row in rows),
        bytes=sum(row.bytes for row in rows),
        ideal_seconds_by_layer=sum(row.ideal_seconds_by_layer for row in rows),
        memory_bound_flops=sum(row.memory_bound_flops for row in rows),
        **roof,
        **fields,
    )


def _kinds_of_parts(variant: Variant) -> Iterator[tuple[str, str]]:
    yield "stem", "stem"
    for i, block in enumerate(block_specs(variant)):
        yield f"block_{i}", "fused" if block.fused else "depthwise"
    yield "head", "head"
