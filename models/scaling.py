"""Compound scaling: a variant -> the concrete list of its blocks, by arithmetic.

Imports no framework, so that search and cost models can use it by itself.
"""

import dataclasses
import math
from collections.abc import Iterator

from models.variants import StageSpec, Variant

# TPUs tile channels by 8, and the reference rounds every width to that.
_FILTER_DIVISOR = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One block after scaling: the real size of everything in it.

    `input_filters` are the channels of the tensor that enters, `expanded_filters`
    those that squeeze-and-excite and the projection see; `se_filters` 0 means no
    squeeze-and-excite. A block with `space_to_depth` begins with the learned
    2x2 stride-2 convolution into `expanded_filters` channels.
    """

    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    expanded_filters: int
    output_filters: int
    se_filters: int
    activation: str
    fused: bool
    space_to_depth: bool

    @property
    def has_skip(self) -> bool:
        """Whether the block's output has its input's shape, so they can be added."""
        same_size = self.strides == 1 and not self.space_to_depth
        return same_size and self.input_filters == self.output_filters


def round_filters(filters: int, width_coefficient: float) -> int:
    """Scale a width to the nearest multiple of 8, losing no more than a tenth."""
    scaled = filters * width_coefficient
    nearest = int(scaled + _FILTER_DIVISOR / 2) // _FILTER_DIVISOR * _FILTER_DIVISOR
    rounded = max(_FILTER_DIVISOR, nearest)
    return rounded + _FILTER_DIVISOR if rounded < 0.9 * scaled else rounded


def round_repeats(num_repeat: int, depth_coefficient: float) -> int:
    """Scale a number of blocks, rounding up."""
    return math.ceil(num_repeat * depth_coefficient)


def stem_filters(variant: Variant) -> int:
    """Channels of the stem after scaling."""
    return round_filters(variant.stem_filters, variant.width_coefficient)


def head_filters(variant: Variant) -> int:
    """Channels of the head, and of the pooled features, after scaling."""
    return round_filters(variant.head_filters, variant.width_coefficient)


def block_specs(variant: Variant) -> tuple[BlockSpec, ...]:
    """Unroll a variant into its blocks, first to last."""
    blocks: list[BlockSpec] = []
    tensor_filters = stem_filters(variant)
    for stage in variant.stages:
        for block in _stage_blocks(stage, variant, tensor_filters):
            blocks.append(block)
            tensor_filters = block.output_filters
    return tuple(blocks)


def _stage_blocks(
    stage: StageSpec, variant: Variant, tensor_filters: int
) -> Iterator[BlockSpec]:
    """Yield the blocks of a stage that a tensor of so many channels enters."""
    entering = stage.space_to_depth == "enter"
    # Inside the space-to-depth section a pixel stands for 2x2 of the original: four
    # times the channels, and half the kernel for about the same receptive field.
    factor = 4 if entering else 1
    declared = factor * round_filters(stage.input_filters, variant.width_coefficient)
    output = factor * round_filters(stage.output_filters, variant.width_coefficient)
    first = BlockSpec(
        kernel_size=(stage.kernel_size + 1) // 2 if entering else stage.kernel_size,
        strides=1 if stage.space_to_depth == "leave" else stage.strides,
        expand_ratio=stage.expand_ratio,
        input_filters=tensor_filters,
        # From the declared width, not the tensor's: the block that leaves the section
        # receives four times what it declares, and the reference does not expand that.
        expanded_filters=declared * stage.expand_ratio,
        output_filters=output,
        se_filters=_se_filters(stage, variant, declared) // factor,
        activation=stage.activation,
        fused=stage.fused,
        space_to_depth=entering,
    )
    yield first
    repeat = dataclasses.replace(
        first,
        strides=1,
        input_filters=output,
        expanded_filters=output * stage.expand_ratio,
        se_filters=_se_filters(stage, variant, output),
        space_to_depth=False,
    )
    for _ in range(round_repeats(stage.num_repeat, variant.depth_coefficient) - 1):
        yield repeat


def _se_filters(stage: StageSpec, variant: Variant, declared_filters: int) -> int:
    """Width of squeeze-and-excite's bottleneck, 0 if the stage has none."""
    if not stage.se_ratio:
        return 0
    return max(1, int(declared_filters * stage.se_ratio * variant.se_coefficient))
