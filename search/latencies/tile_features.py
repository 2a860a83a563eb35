"""What the layers of a network fill of a TPU's tiles, for `latencies.tile_model`.

A TPU computes in tiles: channels in lanes of 128 and, the other way, in sublanes of 8.
With n the pixels that a layer writes in a whole batch, k its kernel and up8, up128 a
rounding up, the features of a network are sums over its layers:

    depthwise_out    of depthwise layers: n up8(channels)
    depthwise_lanes  of them: n up128(channels)
    depthwise_taps   of them: n k^2 up128(channels)
    dense_out        of all other convolutions: n up128(outputs)
    matrix           of them: n k^2 up8(inputs) up128(outputs)
    expanded         of the tensors that squeeze-and-excite sees: n up128(channels)
    spilled          of what any convolution writes: n up128(channels), as far as the
                     tensor's bytes are more than NEAR_BYTES

The stem and the head's convolution count as dense. The classifier, and what moves
pixels alone, are in no feature. Imports no framework.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from models import scaling
from models.errors import ModelError
from models.scaling import BlockSpec
from models.variants import Variant

LANES, SUBLANES = 128, 8
FEATURES = (
    "depthwise_out",
    "depthwise_lanes",
    "depthwise_taps",
    "dense_out",
    "matrix",
    "expanded",
    "spilled",
)
# Of a tensor, what may stay beside the arithmetic. From v5e on a core has 128 MiB there
# (from memory), and keeps what goes in, what comes out and what is fetched meanwhile.
NEAR_BYTES = 32 * 2**20
_BYTES = {"float32": 4, "bfloat16": 2}

Array = np.ndarray[Any, np.dtype[Any]]
# What decides on a base's kind of network, apart from how far it is scaled.
_KIND = ("kernel_size", "strides", "expand_ratio", "fused", "space_to_depth")


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A convolution: where it writes, and what a pixel of it adds to the features."""

    size: int
    lanes: int
    features: Array


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layers of a network whose resolution is left open.

    Attributes:
      specs: its blocks.
      sizes: int[layers], which of `_sizes` each layer writes.
      lanes: int[layers], the lanes that it writes a pixel.
      weights: float64[layers, features], what a pixel of it adds, but for "spilled".
    """

    specs: tuple[BlockSpec, ...]
    sizes: Array
    lanes: Array
    weights: Array

    @classmethod
    def of(cls, variant: Variant) -> "Layout":
        """Return the layout of a network.

        Raises:
          ModelError: it cannot be built.
        """
        specs = scaling.block_specs(variant)
        layers = [_dense(0, 3, 3, scaling.stem_filters(variant))]
        for number, spec in enumerate(specs):
            layers += _layers(spec, 2 * number + 1)
        last = specs[-1].output_filters
        layers.append(_dense(2 * len(specs), 1, last, scaling.head_filters(variant)))
        return cls(
            specs,
            np.array([layer.size for layer in layers]),
            np.array([layer.lanes for layer in layers]),
            np.array([layer.features for layer in layers]),
        )

    @functools.cached_property
    def least_resolution(self) -> int:
        """Which the strides use up; a smaller one cannot be built."""
        return 2 * math.prod(spec.reduction for spec in self.specs)

    def why_not(self, variant: Variant) -> str:
        """Return why a network of this layout cannot have its resolution, or ""."""
        plain = all(spec.space_to_batch == 1 for spec in self.specs)
        if plain and variant.resolution >= self.least_resolution:
            return ""
        try:
            scaling.check_resolution(variant.name, variant.resolution, self.specs)
        except ModelError as error:
            return str(error)
        return ""

    def features(self, resolutions: Sequence[int], batch: int, dtype: str) -> Array:
        """Return float64[resolutions, features] in 10^9, of a batch.

        They are sums of whole numbers, exact below 2**53, and so the same however many
        are asked for.
        """
        sides = self._sizes(resolutions)[:, self.sizes].astype(np.float64)
        pixels = batch * sides**2
        found = pixels @ self.weights
        values = pixels * self.lanes - NEAR_BYTES // _BYTES[dtype]
        found[:, FEATURES.index("spilled")] = np.maximum(values, 0).sum(axis=1)
        return found / 1e9

    def _sizes(self, resolutions: Sequence[int]) -> Array:
        """Return int64[resolutions, sizes]: behind the stem, and of every block.

        Of each block there are two, before its stride and behind it.
        """
        size = -(-np.asarray(resolutions, np.int64) // 2)
        sizes = [size]
        for spec in self.specs:
            if spec.space_to_depth != "none":
                size = -(-size // 2)
            sizes.append(size)
            size = -(-size // spec.strides)
            sizes.append(size)
        return np.stack(sizes, axis=1)


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def _dense(size: int, kernel: int, inputs: int, outputs: int) -> _Layer:
    lanes = _up(outputs, LANES)
    matrix = kernel**2 * _up(inputs, SUBLANES) * lanes
    return _Layer(size, lanes, _features(dense_out=lanes, matrix=matrix))


def _depthwise(size: int, kernel: int, channels: int) -> _Layer:
    lanes = _up(channels, LANES)
    features = _features(
        depthwise_out=_up(channels, SUBLANES),
        depthwise_lanes=lanes,
        depthwise_taps=kernel**2 * lanes,
    )
    return _Layer(size, lanes, features)


def _features(**values: int) -> Array:
    return np.array([values.get(name, 0) for name in FEATURES], float)


def _layers(spec: BlockSpec, before: int) -> Iterator[_Layer]:
    """Yield a block's layers.

    Args:
      spec: the block.
      before: the number of its size before the stride; that behind it is the next.
    """
    inputs, expanded = spec.space_to_depth_filters, spec.expanded_filters
    behind = before + 1
    if spec.space_to_depth == "conv":
        yield _dense(before, 2, spec.input_filters, inputs)
    if spec.fused:
        widest = _dense(behind, spec.kernel_size, inputs, expanded)
    else:
        if spec.has_expansion:
            yield _dense(before, 1, inputs, expanded)
        widest = _depthwise(behind, spec.kernel_size, expanded)
    seen = _features(expanded=widest.lanes)
    yield dataclasses.replace(widest, features=widest.features + seen)
    if spec.project:
        yield _dense(behind, 1, expanded, spec.output_filters)


def why_outside(variant: Variant, specs: Iterable[BlockSpec]) -> str:
    """Return why a network is outside of the model's domain, or ""."""
    if variant.dialect != "reference":
        return f"the tile model knows no networks in {variant.dialect}'s dialect"
    for number, spec in enumerate(specs):
        if not spec.se_filters:
            what = "has no squeeze-and-excite"
        elif not spec.project:
            what = "has no projection"
        elif spec.space_to_batch != 1:
            what = "moves pixels into the batch"
        else:
            continue
        return f"the tile model does not hold here: block {number} {what}"
    return ""


def kind_of(variant: Variant) -> tuple[Any, ...]:
    """Return what all networks have in common that are scaled from one base."""
    return tuple(
        tuple(getattr(stage, name) for name in _KIND) for stage in variant.stages
    )


def layout_key(variant: Variant) -> tuple[Any, ...]:
    """Return all that decides on a network's blocks but for its resolution."""
    return (
        tuple(variant.stages),
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.se_coefficient,
        variant.stem_filters,
        variant.head_filters,
        variant.scale_ends,
        variant.max_width_loss,
        variant.dialect,
        variant.block_changes,
    )
