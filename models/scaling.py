"""Compound scaling: a variant -> the concrete list of its blocks, by arithmetic.

Imports no framework, so that search and cost models can use it by itself.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal

from models.errors import require
from models.variants import StageSpec, Variant, replace_fields

# TPUs tile channels by 8, and the reference rounds every width to that.
_FILTER_DIVISOR = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One block after scaling: the real size of everything in it.

    `input_filters` are the channels of the tensor that enters, `expanded_filters`
    those that squeeze-and-excite and the projection see, which without a projection are
    `output_filters`; `se_filters` 0 means no squeeze-and-excite. A block with
    `space_to_depth` begins by putting 2x2 pixels into four times the channels, by a
    learned convolution ("conv") or by moving them ("reshuffle"). The other fields
    are those of StageSpec and Variant.
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
    space_to_depth: Literal["none", "conv", "reshuffle"] = "none"
    space_to_batch: int = 1
    skip: bool = True
    project: bool = True
    padding: Literal["same", "symmetric"] = "same"

    @property
    def space_to_depth_filters(self) -> int:
        """Channels behind the space-to-depth, if there is one."""
        return self.input_filters * (1 if self.space_to_depth == "none" else 4)

    @property
    def has_expansion(self) -> bool:
        """Whether a convolution makes the expanded channels."""
        return (
            self.fused
            or self.expand_ratio != 1
            or self.space_to_depth_filters != self.expanded_filters
        )

    @property
    def has_skip(self) -> bool:
        """Whether the inputs are added: they must have the outputs' shape."""
        same_size = self.strides == 1 and self.space_to_depth == "none"
        return self.skip and same_size and self.input_filters == self.output_filters

    @property
    def reduction(self) -> int:
        """Factor by which height and width shrink."""
        return self.strides * (1 if self.space_to_depth == "none" else 2)


def round_filters(filters: int, width_coefficient: float, max_loss: float = 0.1) -> int:
    """Scale a width to the nearest multiple of 8, or the next where that loses more."""
    scaled = filters * width_coefficient
    nearest = int(scaled + _FILTER_DIVISOR / 2) // _FILTER_DIVISOR * _FILTER_DIVISOR
    rounded = max(_FILTER_DIVISOR, nearest)
    return rounded + _FILTER_DIVISOR if rounded < (1 - max_loss) * scaled else rounded


def round_repeats(num_repeat: int, depth_coefficient: float) -> int:
    """Scale a number of blocks, rounding up."""
    return math.ceil(num_repeat * depth_coefficient)


def stem_filters(variant: Variant) -> int:
    """Return the channels of the stem after scaling."""
    return _end_filters(variant.stem_filters, variant)


def head_filters(variant: Variant) -> int:
    """Return the channels of the head, and of the pooled features, after scaling."""
    return _end_filters(variant.head_filters, variant)


def _end_filters(filters: int, variant: Variant) -> int:
    """Scale a width of the stem or the head, if these are scaled."""
    return _scaled_width(filters, variant) if variant.scale_ends else filters


def _scaled_width(filters: int, variant: Variant) -> int:
    """Scale a width as the variant does."""
    return round_filters(filters, variant.width_coefficient, variant.max_width_loss)


def block_specs(variant: Variant) -> tuple[BlockSpec, ...]:
    """Unroll a variant into its blocks, first to last.

    Raises:
      ModelError: if the blocks do not fit together or do not fit the resolution.
    """
    blocks: list[BlockSpec] = []
    tensor_filters = stem_filters(variant)
    inside = False
    for i, declared in enumerate(_unrolled(variant)):
        entering = declared.space_to_depth in ("conv", "reshuffle")
        leaving = declared.space_to_depth == "leave"
        _check_section(i, declared, variant, inside)
        _check_projection(i, declared)
        inside = entering or (inside and not leaving)
        blocks.append(_scaled(declared, variant, tensor_filters, inside))
        tensor_filters = blocks[-1].output_filters
    check_resolution(variant.name, variant.resolution, blocks)
    return tuple(blocks)


def _check_section(i: int, block: StageSpec, variant: Variant, inside: bool) -> None:
    """Refuse a block that its place in the network does not allow."""
    leaving = block.space_to_depth == "leave"
    require(
        not (inside and block.space_to_depth in ("conv", "reshuffle")),
        f"block {i} opens a space-to-depth section inside another",
    )
    require(
        not leaving or inside,
        f"block {i} leaves a space-to-depth section that no block before it opened",
    )
    require(
        not leaving or block.strides == 2,
        f"block {i} leaves a space-to-depth section, which has paid a stride of 2: "
        f"its strides must be 2, not {block.strides}",
    )
    # Beyond, symmetric padding makes larger images than SAME.
    require(
        variant.dialect == "reference" or block.strides <= 2,
        f"block {i}: strides must be 1 or 2 in timm's dialect, not {block.strides}",
    )


def _check_projection(i: int, block: StageSpec) -> None:
    """Refuse to leave out the projection where nothing else makes the outputs."""
    require(
        block.project or (block.fused and block.expand_ratio == 1),
        f"block {i}: project = False needs fused = True and expand_ratio = 1, not "
        f"{block.fused} and {block.expand_ratio}",
    )


def stage_of_block(variant: Variant) -> tuple[int, ...]:
    """Return, for every block, the number of its stage, from 1."""
    kept = () if variant.scale_ends else (1, len(variant.stages))
    return tuple(
        number
        for number, stage in enumerate(variant.stages, start=1)
        for _ in range(
            stage.num_repeat
            if number in kept
            else round_repeats(stage.num_repeat, variant.depth_coefficient)
        )
    )


def feature_sizes(variant: Variant) -> tuple[int, ...]:
    """Return height (and width) in pixels behind the stem and behind every block."""
    return sizes_behind(variant.resolution, block_specs(variant))


def sizes_behind(resolution: int, blocks: Sequence[BlockSpec]) -> tuple[int, ...]:
    """Return the sizes behind the stem and every block, for images of a size."""
    sizes = [-(-resolution // 2)]
    for block in blocks:
        sizes.append(-(-sizes[-1] // block.reduction))
    return tuple(sizes)


def batch_domain_moves(blocks: Sequence[BlockSpec]) -> list[tuple[bool, bool]]:
    """Say of every block whether pixels move into the batch before it, back behind it.

    Neighbours of equal space_to_batch share one round trip.
    """
    # Before the first block and behind the last one, pixels are in their place.
    parts = [1, *(block.space_to_batch for block in blocks), 1]
    return [
        (n not in (1, before), n not in (1, behind))
        for before, n, behind in zip(parts, parts[1:], parts[2:], strict=False)
    ]


def _unrolled(variant: Variant) -> Iterator[StageSpec]:
    """Yield every block as a stage of its own, with the changes to single blocks."""
    stage_numbers = stage_of_block(variant)
    changes = {i: dict(fields) for i, fields in variant.block_changes}
    for i in changes:
        require(
            type(i) is int and 0 <= i < len(stage_numbers),
            f"{variant.name} has no block {i!r}, only 0 to {len(stage_numbers) - 1}",
        )
    before = None
    for i, number in enumerate(stage_numbers):
        block = variant.stages[number - 1]
        if number == before:
            inner = {"strides": 1, "space_to_depth": "none"}
            block = dataclasses.replace(block, **inner)
        before = number
        require(
            "num_repeat" not in changes.get(i, {}),
            f"block {i}: num_repeat belongs to a stage; change stage {number}",
        )
        yield replace_fields(block, changes.get(i, {}), f"block {i}")


def _scaled(
    block: StageSpec, variant: Variant, tensor_filters: int, inside: bool
) -> BlockSpec:
    """Scale one block that a tensor of so many channels enters."""
    moving = block.space_to_depth
    entering, leaving = moving in ("conv", "reshuffle"), moving == "leave"
    # Inside a space-to-depth section a pixel stands for 2x2 of the original: four
    # times the channels, and half the kernel for about the same receptive field.
    output = (4 if inside else 1) * _scaled_width(block.output_filters, variant)
    halved = entering or (inside and variant.dialect == "reference")
    # The block that leaves counts as if its input had moved back into space already.
    declared = tensor_filters // 4 if leaving else tensor_filters
    expanded = (4 if entering else 1) * declared * block.expand_ratio
    if not block.project:
        expanded = output
    return BlockSpec(
        kernel_size=(block.kernel_size + 1) // 2 if halved else block.kernel_size,
        strides=1 if leaving else block.strides,
        expand_ratio=block.expand_ratio,
        input_filters=tensor_filters,
        expanded_filters=expanded,
        output_filters=output,
        se_filters=_se_filters(block, variant, tensor_filters, declared),
        activation=block.activation,
        fused=block.fused,
        space_to_depth="none" if moving == "leave" else moving,
        space_to_batch=block.space_to_batch,
        skip=block.skip,
        project=block.project,
        padding="symmetric" if variant.dialect == "timm" else "same",
    )


def _se_filters(
    block: StageSpec, variant: Variant, tensor_filters: int, declared: int
) -> int:
    """Return the width of squeeze-and-excite's bottleneck, 0 for none."""
    if not block.se_ratio:
        return 0
    ratio = block.se_ratio * variant.se_coefficient
    if variant.dialect == "timm":
        return max(1, round(tensor_filters * ratio))
    if block.space_to_depth in ("conv", "reshuffle"):
        return max(1, int(4 * declared * ratio) // 4)
    return max(1, int(declared * ratio))


def check_resolution(name: str, resolution: int, blocks: Sequence[BlockSpec]) -> None:
    """Refuse a resolution that the strides use up or space-to-batch cannot divide.

    Args:
      name: of the model, for the message.
      resolution: height and width of the input in pixels.
      blocks: of the model, first to last.

    Raises:
      ModelError: if it is too small, or not divisible.
    """
    total = 2 * math.prod(block.reduction for block in blocks)
    # Below that the last blocks see only padding.
    require(
        resolution >= total,
        f"resolution {resolution} is too small for {name}: its strides divide it by "
        f"{total}, so {total} is the least",
    )
    sizes = sizes_behind(resolution, blocks)[:-1]
    for i, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        _check_space_to_batch(i, block, size)


def check_patches(patch_size: int, resolution: int) -> None:
    """Refuse images that the stem's patches of n x n pixels do not fill.

    Raises:
      ModelError: says which sizes are near.
    """
    n = patch_size
    require(
        resolution % n == 0,
        f"stem_block_size {n} does not divide the resolution {resolution}; the nearest "
        f"that it does are {resolution // n * n} and {resolution // n * n + n}",
    )


def check_stem(variant: Variant, patch_size: int) -> None:
    """Refuse patches of n x n pixels on which a variant's stem cannot be computed.

    Raises:
      ModelError: says which size would do.
    """
    n = patch_size
    require(n in (1, 2, 4), f"stem_block_size must be 1, 2 or 4, not {n!r}")
    check_patches(n, variant.resolution)
    require(
        n == 1 or variant.dialect == "reference",
        f"{variant.name} pads its stem symmetrically: it has no form of patches; "
        "use stem_block_size = 1",
    )
    first = block_specs(variant)[0]
    require(
        n < 4 or first.space_to_depth == "conv",
        "stem_block_size 4 needs the learned space-to-depth in block 0, which "
        f"{variant.name} has not; use 2",
    )
    require(
        n < 4 or first.space_to_batch == 1,
        "stem_block_size 4 folds pixels together that space_to_batch in block 0 "
        "would part; use 2",
    )


def _check_space_to_batch(i: int, block: BlockSpec, size: int) -> None:
    """Refuse parts that padding would complete: it would count in every mean."""
    n = block.space_to_batch

    def divides(n: int) -> bool:
        return size % (n * block.reduction) == 0

    stride = f", together with its stride {block.reduction}," * (block.reduction > 1)
    fitting = [str(n) for n in range(2, 9) if divides(n)]
    require(
        n == 1 or divides(n),
        f"block {i}: space_to_batch {n}{stride} does not divide its {size}x{size} "
        f"input; choose {' or '.join(['1', *fitting])}, or another resolution",
    )
