"""The segments of a network, and what the program of each depends on.

Imports no framework: a segment that is known is found again in microseconds.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from common.checks import nearest_names
from models import scaling
from models.errors import require
from models.scaling import BlockSpec
from models.variants import StageSpec, Variant, get_variant

# Keras' policy by the dtype of the arithmetic; variables are float32, as in training.
POLICIES = {"bfloat16": "mixed_bfloat16", "float32": "float32"}

SegmentKind = Literal["stem", "depthwise", "fused", "head"]

LARGEST = 2**31 - 1  # what a size in a compiler's shapes is sure to hold


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How inference is lowered; but for the first two, arguments of `build_model`.

    Attributes:
      batch: images at once.
      dtype: of the arithmetic, "bfloat16" or "float32"; variables are float32.
      num_classes: number of logits.
      fold_batch_norm: convolutions with a bias in place of batch norm.
      stem_block_size: 1, 2 or 4 pixels a side of the stem's patches.
      stem_reshuffle: who makes these: "device" or "host".
      input_layout: of the pixels, "NHWC" or "HWCN".
    """

    batch: int
    dtype: str
    num_classes: int = 1000
    fold_batch_norm: bool = False
    stem_block_size: int = 1
    stem_reshuffle: str = "device"
    input_layout: str = "NHWC"

    def __post_init__(self):
        for name in ("batch", "num_classes"):
            value = getattr(self, name)
            require(
                type(value) is int and 1 <= value <= LARGEST,
                f"{name} must be an integer of 1 to {LARGEST:,}, not {value!r}",
            )
        known = ", ".join(POLICIES)
        of_gpus = "; TPUs compute in bfloat16" * (self.dtype == "float16")
        require(
            self.dtype in POLICIES,
            f"dtype must be one of {known}, not {self.dtype!r}{of_gpus}",
        )

    @classmethod
    def of(cls, *, batch: int, dtype: str, **build_options: Any) -> "InferenceOptions":
        """Make the options of keyword arguments.

        Raises:
          ModelError: an option that is unknown or that decides on the architecture.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in build_options:
            near = nearest_names(name, names)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            require(
                name in names,
                f"inference has no option {name!r}: {hint}Another architecture is a "
                "Variant of its own, see models.change",
            )
        return cls(batch=batch, dtype=dtype, **build_options)

    def of_model(self) -> dict[str, Any]:
        """Return the arguments of `build_model`."""
        arguments = vars(self) | {"dtype": POLICIES[self.dtype]}
        del arguments["batch"]
        return arguments

    def of_segment(self, kind: SegmentKind) -> "InferenceOptions":
        """Return them with the default for what such a segment does not depend on."""
        away = set()
        if kind != "stem":
            away |= {"stem_block_size", "stem_reshuffle", "input_layout"}
        if kind != "head":
            away |= {"num_classes"}
        return InferenceOptions(
            **{key: vars(self)[key] for key in vars(self).keys() - away}
        )


@dataclasses.dataclass(frozen=True)
class BlockSegment:
    """What a block's program depends on, beside the options.

    Attributes:
      spec: its sizes.
      input_size: height and width in pixels of the tensor that enters.
      batch_norm_epsilon: of the variant.
      of_patches: the stem has put 2x2 pixels of that tensor into the channels.
      enters: it moves pixels into the batch, as the first of a section in which
        space_to_batch is the same.
      leaves: it moves them back, as the last.
    """

    spec: BlockSpec
    input_size: int
    batch_norm_epsilon: float
    of_patches: bool = False
    enters: bool = False
    leaves: bool = False


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a network in its position there.

    Attributes:
      name: "stem", "block_0", "block_1", ..., and "head" with pooling and classifier.
      kind: of which sort.
      input_size: height and width in pixels of what enters.
      output_size: of what leaves; 1 behind the head.
      input_filters: channels of what enters.
      output_filters: of what leaves.
      definition: all that its program depends on, beside the options: a block, or the
        least network that has this stem or head.
    """

    name: str
    kind: SegmentKind
    input_size: int
    output_size: int
    input_filters: int
    output_filters: int
    definition: BlockSegment | Variant


def resolved(variant: str | Variant) -> Variant:
    """Return the variant of this name, or the variant itself."""
    return get_variant(variant) if isinstance(variant, str) else variant


def segments_of(variant: str | Variant, options: InferenceOptions) -> list[Segment]:
    """Return all segments of a network, first to last; nothing is in two of them.

    Raises:
      ModelError: no such variant, or it cannot be built with these options.
    """
    variant = resolved(variant)
    specs = scaling.block_specs(variant)
    scaling.check_stem(variant, options.stem_block_size)
    size, sizes = variant.resolution, scaling.sizes_behind(variant.resolution, specs)
    filters, stem = specs[-1].output_filters, specs[0].input_filters
    head = _least_with_head(variant, sizes[-1], filters)
    return [
        Segment("stem", "stem", size, sizes[0], 3, stem, least_with_stem(variant)),
        *_blocks(variant, specs, sizes, of_patches=options.stem_block_size == 4),
        Segment("head", "head", sizes[-1], 1, filters, options.num_classes, head),
    ]


def _blocks(
    variant: Variant,
    specs: Sequence[BlockSpec],
    sizes: Sequence[int],
    *,
    of_patches: bool,
) -> Iterator[Segment]:
    """Yield the blocks; only the first one sees the stem's patches."""
    moves = scaling.batch_domain_moves(specs)
    for i, (spec, (enters, leaves)) in enumerate(zip(specs, moves, strict=True)):
        yield Segment(
            name=f"block_{i}",
            kind="fused" if spec.fused else "depthwise",
            input_size=sizes[i],
            output_size=sizes[i + 1],
            input_filters=spec.input_filters,
            output_filters=spec.output_filters,
            definition=BlockSegment(
                spec,
                sizes[i],
                variant.batch_norm_epsilon,
                of_patches=of_patches and i == 0,
                enters=enters,
                leaves=leaves,
            ),
        )


def least_with_stem(variant: Variant) -> Variant:
    """Return a network of this stem and of one block, the variant's first."""
    return dataclasses.replace(
        variant,
        name="stem",
        stages=(dataclasses.replace(variant.stages[0], num_repeat=1),),
        depth_coefficient=1.0,
        dropout_rate=0.0,
        head_filters=8,
        block_changes=tuple(one for one in variant.block_changes if one[0] == 0),
    )


def _least_with_head(variant: Variant, size: int, filters: int) -> Variant:
    """Return a network of this head and of one small block."""
    return dataclasses.replace(
        variant,
        name="head",
        stages=(StageSpec(1, 1, 1, 1, filters, "relu", se_ratio=0),),
        width_coefficient=1.0,
        depth_coefficient=1.0,
        se_coefficient=1.0,
        resolution=2 * size,
        dropout_rate=0.0,
        stem_filters=8,
        head_filters=scaling.head_filters(variant),
        block_changes=(),
    )
