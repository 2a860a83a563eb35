"""The layers of a network with what each computes and moves, by arithmetic.

Imports no framework, as `models.complexity`, which counts the same work by blocks.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from models import scaling
from models.errors import require
from models.scaling import BlockSpec
from models.variants import Variant

LayerKind = Literal[
    "stem",
    "space_to_depth",
    "fused",
    "conv_1x1",
    "depthwise",
    "squeeze_excite",
    "classifier",
    "reshuffle",
]
_COLORS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer and what it needs for one image.

    Batch norm, activation functions, pooling, squeeze-and-excite's product and the
    residual's sum are no layers: a compiler fuses them with the convolution beside
    them. What a depthwise convolution writes, for example, is its normalised output,
    and the projection reads it once. With the sum, it also reads the block's input;
    in a block without a projection that input is what the convolution reads anyway.

    Attributes:
      name: in its part, as in the model: "expand", "depthwise", ...
      part: "stem", "block_0", ..., or "head", to which the classifier belongs.
      kind: "fused" is the k x k convolution of a fused MBConv, "space_to_depth" the
        learned one; "reshuffle" moves pixels and computes nothing.
      macs: multiply-accumulates.
      input_elements: numbers that it reads, the weights apart; of the stem those
        are the image's pixels.
      output_elements: numbers that it writes.
      weights: kernel and bias, and batch norm's gamma and beta; the same for any
        number of images.
    """

    name: str
    part: str
    kind: LayerKind
    macs: int
    input_elements: int
    output_elements: int
    weights: int


def layers(variant: Variant, num_classes: int = 1000) -> tuple[Layer, ...]:
    """Return the layers of a variant in the order of the computation.

    Args:
      variant: a row of the table, or a variant of your own.
      num_classes: number of logits.

    Raises:
      ModelError: for a variant that cannot be built, or a value out of range.
    """
    require(num_classes >= 1, f"num_classes must be 1 or more, not {num_classes}")
    blocks, sizes = scaling.block_specs(variant), scaling.feature_sizes(variant)
    stem, head = scaling.stem_filters(variant), scaling.head_filters(variant)
    pixels = _Tensor(variant.resolution, _COLORS)
    chain = [_conv("conv", "stem", "stem", pixels, _Tensor(sizes[0], stem), 3)]
    moves = scaling.batch_domain_moves(blocks)
    for i, (block, (enters, leaves)) in enumerate(zip(blocks, moves, strict=True)):
        part = f"block_{i}"
        if enters:
            x = _Tensor(sizes[i], block.input_filters)
            chain.append(_move("space_to_batch", part, x, x))
        chain += _block_layers(part, block, sizes[i])
        if leaves:
            x = _Tensor(sizes[i + 1], block.output_filters)
            chain.append(_move("batch_to_space", part, x, x))
    last = _Tensor(sizes[-1], blocks[-1].output_filters)
    chain.append(_conv("conv", "head", "conv_1x1", last, last.with_channels(head), 1))
    pooled, logits = _Tensor(1, head), _Tensor(1, num_classes)
    classifier = _conv(
        "classifier", "head", "classifier", pooled, logits, 1, norm=False
    )
    return (*chain, classifier)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Height (and width), channels, and into how many samples an image is parted."""

    size: int
    channels: int
    samples: int = 1

    @property
    def elements(self) -> int:
        return self.samples * self.size**2 * self.channels

    def with_channels(self, channels: int) -> "_Tensor":
        return dataclasses.replace(self, channels=channels)

    def shrunk(self, factor: int) -> "_Tensor":
        """Return it behind a stride; an odd pixel makes one of its own."""
        return dataclasses.replace(self, size=-(-self.size // factor))


def _block_layers(part: str, block: BlockSpec, size: int) -> Iterator[Layer]:
    """Yield a block's layers, for the size of the tensor that enters."""
    n = block.space_to_batch
    entering = x = _Tensor(size // n, block.input_filters, samples=n**2)
    if block.space_to_depth != "none":
        folded = x.shrunk(2).with_channels(block.space_to_depth_filters)
        if block.space_to_depth == "conv":
            yield _conv("fold", part, "space_to_depth", x, folded, 2)
        else:
            yield _move("fold", part, x, folded)
        x = folded
    expanded = x.with_channels(block.expanded_filters)
    small = expanded.shrunk(block.strides)
    if block.fused:
        yield _conv("expand", part, "fused", x, small, block.kernel_size)
    else:
        if block.has_expansion:
            yield _conv("expand", part, "conv_1x1", x, expanded, 1)
        yield _depthwise(part, expanded, small, block.kernel_size)
    if block.se_filters:
        yield from _squeeze_excite(part, small, block.se_filters)
    if not block.project:
        return
    output = small.with_channels(block.output_filters)
    project = _conv("project", part, "conv_1x1", small, output, 1)
    added = entering.elements if block.has_skip else 0
    yield dataclasses.replace(project, input_elements=project.input_elements + added)


def _squeeze_excite(part: str, x: _Tensor, filters: int) -> Iterator[Layer]:
    """Yield the two convolutions of each sample's mean."""
    mean = dataclasses.replace(x, size=1)
    reduced = mean.with_channels(filters)
    for name, source, target in (("reduce", mean, reduced), ("expand", reduced, mean)):
        yield _conv(
            f"squeeze_excite/{name}",
            part,
            "squeeze_excite",
            source,
            target,
            1,
            norm=False,
        )


def _conv(
    name: str,
    part: str,
    kind: LayerKind,
    source: _Tensor,
    target: _Tensor,
    kernel_size: int,
    *,
    norm: bool = True,
) -> Layer:
    """Return a convolution with its batch norm, or with a bias where it has none."""
    kernel = kernel_size**2 * source.channels * target.channels
    return Layer(
        name=name,
        part=part,
        kind=kind,
        macs=target.samples * target.size**2 * kernel,
        input_elements=source.elements,
        output_elements=target.elements,
        weights=kernel + (2 if norm else 1) * target.channels,
    )


def _depthwise(part: str, source: _Tensor, target: _Tensor, kernel_size: int) -> Layer:
    return Layer(
        name="depthwise",
        part=part,
        kind="depthwise",
        macs=target.elements * kernel_size**2,
        input_elements=source.elements,
        output_elements=target.elements,
        weights=(kernel_size**2 + 2) * target.channels,
    )


def _move(name: str, part: str, source: _Tensor, target: _Tensor) -> Layer:
    return Layer(
        name=name,
        part=part,
        kind="reshuffle",
        macs=0,
        input_elements=source.elements,
        output_elements=target.elements,
        weights=0,
    )
