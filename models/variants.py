"""Every variant as one row of one table. Imports no framework.

Sources: "Searching for Fast Model Families on Datacenter Accelerators" (CVPR 2021),
the authors' tensorflow/tpu, models/official/efficientnet, with its lite/; for
EfficientNetV2 google/automl, efficientnetv2/effnetv2_configs.py; for the rows that end
in -timm, timm 1.0.31, models/efficientnet.py. Those with v5e in their names are ours.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from common import checks
from common.checks import Rule, is_number, nearest_names
from models.errors import ModelError, require
from models.foreign_names import nearest_variants
from models.imagenet import MEAN_RGB, STD_RGB

SpaceToDepth = Literal["none", "conv", "reshuffle", "leave"]
Dialect = Literal["reference", "timm"]

# Beyond all that was ever built: a slip, which would take all memory or never end.
_MOST_CHANNELS = 2**16
_MOST_COLOR = 1e6


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage before scaling; a stage of one block describes any single block.

    Attributes:
      num_repeat: blocks, before scaling of the depth.
      kernel_size: of the depthwise, or of the fused, convolution.
      strides: of the first block; the others have 1.
      expand_ratio: expanded channels per channel that enters.
      output_filters: channels, before scaling of the width.
      activation: Keras' name of a function, such as "relu" or "swish".
      fused: one dense convolution in place of expansion and depthwise.
      se_ratio: channels of squeeze-and-excite's bottleneck per channel that enters
        the block; 0 is no squeeze-and-excite.
      space_to_depth: a section of the network may run at half its resolution on
        four times the channels. The first block of a stage opens the section by
        a learned 2x2 stride-2 convolution ("conv") or by moving pixels alone
        ("reshuffle"), or closes it ("leave"), its stride being already paid.
      space_to_batch: n > 1 runs the blocks on n*n interleaved parts of the image,
        each of which is a sample for their squeeze-and-excite. Their convolutions
        reach n times as far. Neighbouring blocks of equal n share one round trip.
      skip: add a block's inputs to its outputs wherever the shapes allow it.
      project: end in a 1x1 convolution to output_filters. False is for fused blocks of
        expand_ratio 1 alone: their one convolution writes output_filters itself, and
        batch norm and activation end the branch.
    """

    num_repeat: int
    kernel_size: int
    strides: int
    expand_ratio: int
    output_filters: int
    activation: str
    fused: bool = False
    se_ratio: float = 0.25
    space_to_depth: SpaceToDepth = "none"
    space_to_batch: int = 1
    skip: bool = True
    project: bool = True

    rules: ClassVar[Mapping[str, Rule]] = {
        "num_repeat": checks.whole(1, 1000),
        "kernel_size": checks.whole(1, 255),
        "strides": checks.whole(1, 64),
        "expand_ratio": checks.whole(1, 256),
        "output_filters": checks.whole(1, _MOST_CHANNELS),
        "activation": checks.TEXT,
        "fused": checks.SWITCH,
        "se_ratio": checks.between(0, 64),
        "space_to_depth": checks.one_of(*SpaceToDepth.__args__),
        "space_to_batch": checks.whole(1, 64),
        "skip": checks.SWITCH,
        "project": checks.SWITCH,
    }

    def __post_init__(self):
        checks.require_fields(self, "", ModelError)


def _is_block_change(value: Any) -> bool:
    """Whether a value is an index with pairs of a field and what it is changed to."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and type(value[0]) is int
        and isinstance(value[1], tuple)
        and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value[1])
    )


def _colors(above: float, what: str) -> Rule:
    """Make a rule of one number above a limit for each of red, green and blue."""
    return Rule(
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) == 3
            and all(is_number(v) and above < v <= _MOST_COLOR for v in value)
        ),
        what,
    )


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named network: its stages and how far they are scaled.

    Attributes:
      name: of the Keras model.
      width_coefficient: factor of all channels.
      depth_coefficient: factor of the blocks in each stage.
      resolution: height and width of the input in pixels.
      dropout_rate: before the classifier, in [0, 1).
      se_coefficient: factor of every se_ratio.
      stages: first to last.
      stem_filters: channels of the stem before scaling.
      head_filters: channels of the head before scaling.
      activation: of the stem and the head.
      batch_norm_epsilon: added to the variance.
      batch_norm_momentum: of the moving statistics.
      mean_rgb: of red, green and blue, what pixels in 0..255 are reduced by.
      std_rgb: of red, green and blue, what they are divided by then.
      scale_ends: False keeps the channels of stem and head, and the number of blocks
        in the first and the last stage, whatever the coefficients.
      max_width_loss: the part of a scaled width, from 0 to 1, that rounding to a
        multiple of 8 may take away; where it would be more it rounds up. 1 always
        takes the nearest.
      dialect: "timm" follows timm 1.0.31 where it differs from the authors'
        "reference": convolutions with a stride are padded alike on both sides
        (SAME puts the odd pixel below and to the right); the width of
        squeeze-and-excite is rounded, not cut off, and in the block that leaves
        a space-to-depth section it counts from the channels that really enter;
        inside such a section only the first block's kernel is halved.
      block_changes: fields of StageSpec to change in single blocks, by their index
        from 0 after scaling: what `change` has collected.

    Raises:
      ModelError: for a value out of range, also when made by `dataclasses.replace`.
    """

    name: str
    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float
    se_coefficient: float
    stages: tuple[StageSpec, ...]
    stem_filters: int = 32
    head_filters: int = 1280
    activation: str = "relu"
    batch_norm_epsilon: float = 1e-3
    batch_norm_momentum: float = 0.99
    mean_rgb: tuple[float, float, float] = MEAN_RGB
    std_rgb: tuple[float, float, float] = STD_RGB
    scale_ends: bool = True
    max_width_loss: float = 0.1
    dialect: Dialect = "reference"
    block_changes: tuple[tuple[int, tuple[tuple[str, Any], ...]], ...] = ()

    rules: ClassVar[Mapping[str, Rule]] = {
        "name": checks.TEXT,
        "width_coefficient": checks.positive(64),
        "depth_coefficient": checks.positive(64),
        "resolution": checks.whole(1, 8192),
        "dropout_rate": checks.BELOW_ONE,
        "se_coefficient": checks.positive(64),
        "stages": checks.items(
            lambda stage: isinstance(stage, StageSpec),
            "a list of one StageSpec or more, as (@variants.StageSpec(),)",
            least=1,
        ),
        "stem_filters": checks.whole(1, _MOST_CHANNELS),
        "head_filters": checks.whole(1, _MOST_CHANNELS),
        "activation": checks.TEXT,
        "batch_norm_epsilon": checks.EPSILON,
        "batch_norm_momentum": checks.BELOW_ONE,
        "mean_rgb": _colors(-_MOST_COLOR, "three numbers up to 1,000,000"),
        "std_rgb": _colors(0, "three numbers above 0 and up to 1,000,000"),
        "scale_ends": checks.SWITCH,
        "max_width_loss": checks.FRACTION,
        "dialect": checks.one_of(*Dialect.__args__),
        "block_changes": checks.items(_is_block_change, "what `change` has made"),
    }

    def __post_init__(self):
        checks.require_fields(self, "", ModelError)


# Of single stages or blocks, by number.
CHANGES = checks.optional(
    checks.mapping(
        lambda number: type(number) is int,
        lambda fields: isinstance(fields, Mapping),
        "from numbers to fields, as {2: {'kernel_size': 5}}",
    )
)


@checks.rules(
    ModelError,
    variant=Rule(
        lambda value: isinstance(value, Variant),
        "a Variant, as @variants.get_variant() with the parentheses",
    ),
    stages=CHANGES,
    blocks=CHANGES,
)
def change(
    variant: Variant,
    stages: Mapping[int, Mapping[str, Any]] | None = None,
    blocks: Mapping[int, Mapping[str, Any]] | None = None,
) -> Variant:
    """Change fields of single stages and blocks.

    Args:
      variant: to start from; it stays as it is.
      stages: by the stage's number from 1, as in the paper, the fields of StageSpec
        to change: {2: {"kernel_size": 5, "fused": False}}.
      blocks: by the block's index from 0 after scaling, as in the names of the
        layers, the same but for `num_repeat`. Applied after the stages.

    Returns:
      A new variant of the same name.

    Raises:
      ModelError: for an unknown stage or field, or a value out of range. A block
        that is not there, or does not fit, is found when the blocks are made.
    """
    changed = list(variant.stages)
    for number, fields in (stages or {}).items():
        require(
            1 <= number <= len(changed),
            f"{variant.name} has no stage {number!r}, only 1 to {len(changed)}",
        )
        where = f"stage {number}"
        changed[number - 1] = replace_fields(changed[number - 1], fields, where)
    known = {i: dict(fields) for i, fields in variant.block_changes}
    for i, fields in (blocks or {}).items():
        replace_fields(variant.stages[0], fields, f"block {i}")  # to check the fields
        known[i] = {**known.get(i, {}), **fields}
    return dataclasses.replace(
        variant,
        stages=tuple(changed),
        block_changes=tuple((i, tuple(new.items())) for i, new in known.items()),
    )


def replace_fields(stage: StageSpec, fields: Mapping[str, Any], where: str):
    """Return the stage with the fields replaced; an error begins with `where`."""
    names = [field.name for field in dataclasses.fields(StageSpec)]
    for name in fields:
        near = nearest_names(str(name), names)
        hint = f"did you mean {' or '.join(near)}?" if near else ", ".join(names)
        require(name in names, f"{where}: a stage has no field {name!r}; {hint}")
    try:
        return dataclasses.replace(stage, **fields)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


# fmt: off
# num_repeat, kernel_size, strides, expand_ratio, output_filters, activation
_X_STAGES = (
    StageSpec(1, 3, 1, 1, 16, "relu", space_to_depth="conv"),
    StageSpec(2, 3, 2, 6, 24, "swish", fused=True, space_to_depth="leave"),
    StageSpec(2, 5, 2, 6, 40, "swish", fused=True),
    StageSpec(3, 3, 2, 6, 80, "relu"),
    StageSpec(3, 5, 1, 6, 112, "relu"),
    StageSpec(4, 5, 2, 6, 192, "relu"),
    StageSpec(1, 3, 1, 6, 320, "relu"),
)
_B_STAGES = (
    StageSpec(1, 3, 1, 1, 16, "swish"),
    StageSpec(2, 3, 2, 6, 24, "swish"),
    StageSpec(2, 5, 2, 6, 40, "swish"),
    StageSpec(3, 3, 2, 6, 80, "swish"),
    StageSpec(3, 5, 1, 6, 112, "swish"),
    StageSpec(4, 5, 2, 6, 192, "swish"),
    StageSpec(1, 3, 1, 6, 320, "swish"),
)


def _with(stages: Iterable[StageSpec], **fields: Mapping[int, Any]):
    """Return the stages with fields by the number of the stage."""
    return tuple(
        dataclasses.replace(
            stage, **{name: new[i] for name, new in fields.items() if i in new}
        )
        for i, stage in enumerate(stages, start=1)
    )


_H_STAGES = _with(_X_STAGES, expand_ratio={2: 4, 3: 4, 4: 4})
# timm has relu and swish the other way round.
_TIMM_ACTIVATIONS = {i: "relu" if i in (2, 3) else "swish" for i in range(1, 8)}
_TIMM_X_STAGES = _with(_X_STAGES, activation=_TIMM_ACTIVATIONS)
_TIMM_H_STAGES = _with(_H_STAGES, activation=_TIMM_ACTIVATIONS)

# For processors that have nothing but convolutions and relu6 in int8.
_LITE_STAGES = tuple(
    dataclasses.replace(stage, activation="relu6", se_ratio=0) for stage in _B_STAGES
)


def _v2_stages(*rows: tuple[int, int, int, int]) -> tuple[StageSpec, ...]:
    """Return stages of EfficientNetV2; the first three are fused.

    Args:
      *rows: num_repeat, strides, expand_ratio, output_filters.
    """
    return tuple(
        StageSpec(
            *(repeats, 3, strides, expansion, filters, "swish"),
            fused=i < 3,
            se_ratio=0 if i < 3 else 0.25,
            project=expansion != 1,
        )
        for i, (repeats, strides, expansion, filters) in enumerate(rows)
    )


# num_repeat, strides, expand_ratio, output_filters
_V2_B_STAGES = _v2_stages(
    (1, 1, 1, 16), (2, 2, 4, 32), (2, 2, 4, 48),
    (3, 2, 4, 96), (5, 1, 6, 112), (8, 2, 6, 192),
)
_V2_S_STAGES = _v2_stages(
    (2, 1, 1, 24), (4, 2, 4, 48), (4, 2, 4, 64),
    (6, 2, 4, 128), (9, 1, 6, 160), (15, 2, 6, 256),
)
_V2_M_STAGES = _v2_stages(
    (3, 1, 1, 24), (5, 2, 4, 48), (5, 2, 4, 80),
    (7, 2, 4, 160), (14, 1, 6, 176), (18, 2, 6, 304), (5, 1, 6, 512),
)
_V2_L_STAGES = _v2_stages(
    (4, 1, 1, 32), (7, 2, 4, 64), (7, 2, 4, 96),
    (10, 2, 4, 192), (19, 1, 6, 224), (25, 2, 6, 384), (7, 1, 6, 640),
)
_V2_XL_STAGES = _v2_stages(
    (4, 1, 1, 32), (8, 2, 4, 64), (8, 2, 4, 96),
    (16, 2, 4, 192), (24, 1, 6, 256), (32, 2, 6, 512), (8, 1, 6, 640),
)

_SWISH: dict[str, Any] = {"activation": "swish"}
_TIMM: dict[str, Any] = {**_SWISH, "batch_norm_epsilon": 1e-5, "dialect": "timm"}
_LITE: dict[str, Any] = {
    "activation": "relu6",
    "scale_ends": False,
    "mean_rgb": (127.0, 127.0, 127.0),
    "std_rgb": (128.0, 128.0, 128.0),
}
_V2_B: dict[str, Any] = {**_SWISH, "batch_norm_momentum": 0.9, "max_width_loss": 1.0}
_V2_L: dict[str, Any] = {
    **_V2_B,
    "mean_rgb": (128.0, 128.0, 128.0),
    "std_rgb": (128.0, 128.0, 128.0),
}
_V2_S: dict[str, Any] = {**_V2_L, "stem_filters": 24}

_TABLE = (
    # name, width, depth, resolution, dropout, se_coefficient, stages
    # EfficientNet-X with EfficientNet's own coefficients, the paper's main table.
    Variant("efficientnet-x-b0", 1.0, 1.0, 224, 0.2, 4, _X_STAGES),
    Variant("efficientnet-x-b1", 1.0, 1.1, 240, 0.2, 2, _X_STAGES),
    Variant("efficientnet-x-b2", 1.1, 1.2, 260, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-b3", 1.2, 1.4, 300, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-b4", 1.4, 1.8, 380, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-b5", 1.6, 2.2, 456, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-b6", 1.8, 2.6, 528, 0.5, 1, _X_STAGES),
    Variant("efficientnet-x-b7", 2.0, 3.1, 600, 0.5, 1, _X_STAGES),
    # Wider, with a smaller expansion.
    Variant("efficientnet-h-b5", 1.92, 2.2, 456, 0.4, 1, _H_STAGES),
    Variant("efficientnet-h-b6", 2.16, 2.6, 528, 0.5, 1, _H_STAGES),
    Variant("efficientnet-h-b7", 2.4, 3.1, 600, 0.5, 1, _H_STAGES),
    # Latency-aware compound scaling (LACS) for the TPU.
    Variant("efficientnet-x-tpu-b0", 1.0, 1.0, 224, 0.2, 4, _X_STAGES),
    Variant("efficientnet-x-tpu-b1", 1.05, 1.09, 229, 0.2, 2, _X_STAGES),
    Variant("efficientnet-x-tpu-b2", 1.13, 1.29, 244, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-tpu-b3", 1.27, 1.62, 263, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-tpu-b4", 1.54, 2.38, 299, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-tpu-b5", 1.96, 2.76, 332, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-tpu-b6", 2.75, 3.01, 328, 0.5, 1, _X_STAGES),
    Variant("efficientnet-x-tpu-b7", 3.26, 3.44, 350, 0.5, 1, _X_STAGES),
    Variant("efficientnet-h-tpu-b5", 2.3, 2.76, 332, 0.4, 1, _H_STAGES),
    Variant("efficientnet-h-tpu-b6", 3.0, 3.01, 328, 0.5, 1, _H_STAGES),
    Variant("efficientnet-h-tpu-b7", 3.6, 3.44, 350, 0.5, 1, _H_STAGES),
    # LACS for the GPU.
    Variant("efficientnet-x-gpu-b0", 1.0, 1.0, 224, 0.2, 4, _X_STAGES),
    Variant("efficientnet-x-gpu-b1", 1.05, 1.09, 229, 0.2, 2, _X_STAGES),
    Variant("efficientnet-x-gpu-b2", 1.13, 1.24, 237, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-gpu-b3", 1.31, 1.63, 255, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-gpu-b4", 1.63, 2.4, 282, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-gpu-b5", 1.94, 3.29, 306, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-gpu-b6", 2.25, 4.28, 328, 0.5, 1, _X_STAGES),
    Variant("efficientnet-x-gpu-b7", 2.58, 5.46, 350, 0.5, 1, _X_STAGES),
    # Our own for TPU v5e, as fast there as x-b1 to x-b5: found by search.lacs with
    # gin_configs/search/lacs_v5e.gin. None was trained; docs/search.md says more.
    Variant("efficientnet-x-v5e-b1", 1.75, 1.0, 224, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-v5e-b2", 1.6, 1.2917, 224, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-v5e-b3", 2.0, 1.2917, 256, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-v5e-b4", 2.0, 2.2917, 296, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-v5e-b5", 2.0, 3.875, 336, 0.4, 1, _X_STAGES),
    # The baseline.
    Variant("efficientnet-b0", 1.0, 1.0, 224, 0.2, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b1", 1.0, 1.1, 240, 0.2, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b2", 1.1, 1.2, 260, 0.3, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b3", 1.2, 1.4, 300, 0.3, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b4", 1.4, 1.8, 380, 0.4, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b5", 1.6, 2.2, 456, 0.4, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b6", 1.8, 2.6, 528, 0.5, 1, _B_STAGES, **_SWISH),
    Variant("efficientnet-b7", 2.0, 3.1, 600, 0.5, 1, _B_STAGES, **_SWISH),
    # EfficientNet-Lite, for phones and other processors of int8.
    Variant("efficientnet-lite0", 1.0, 1.0, 224, 0.2, 1, _LITE_STAGES, **_LITE),
    Variant("efficientnet-lite1", 1.0, 1.1, 240, 0.2, 1, _LITE_STAGES, **_LITE),
    Variant("efficientnet-lite2", 1.1, 1.2, 260, 0.3, 1, _LITE_STAGES, **_LITE),
    Variant("efficientnet-lite3", 1.2, 1.4, 280, 0.3, 1, _LITE_STAGES, **_LITE),
    Variant("efficientnet-lite4", 1.4, 1.8, 300, 0.3, 1, _LITE_STAGES, **_LITE),
    # EfficientNetV2, at the resolutions of its evaluation.
    Variant("efficientnetv2-b0", 1.0, 1.0, 224, 0.2, 1, _V2_B_STAGES, **_V2_B),
    Variant("efficientnetv2-b1", 1.0, 1.1, 240, 0.2, 1, _V2_B_STAGES, **_V2_B),
    Variant("efficientnetv2-b2", 1.1, 1.2, 260, 0.3, 1, _V2_B_STAGES, **_V2_B),
    Variant("efficientnetv2-b3", 1.2, 1.4, 300, 0.3, 1, _V2_B_STAGES, **_V2_B),
    Variant("efficientnetv2-s", 1.0, 1.0, 384, 0.2, 1, _V2_S_STAGES, **_V2_S),
    Variant("efficientnetv2-m", 1.0, 1.0, 480, 0.3, 1, _V2_M_STAGES, **_V2_S),
    Variant("efficientnetv2-l", 1.0, 1.0, 480, 0.4, 1, _V2_L_STAGES, **_V2_L),
    Variant("efficientnetv2-xl", 1.0, 1.0, 512, 0.4, 1, _V2_XL_STAGES, **_V2_L),
    # timm's own architectures of these names, at the resolutions of its training.
    Variant("efficientnet-x-b3-timm", 1.2, 1.4, 288, 0.3, 1, _TIMM_X_STAGES, **_TIMM),
    Variant("efficientnet-x-b5-timm", 1.6, 2.2, 448, 0.4, 1, _TIMM_X_STAGES, **_TIMM),
    Variant("efficientnet-h-b5-timm", 1.92, 2.2, 448, 0.4, 1, _TIMM_H_STAGES, **_TIMM),
)
# fmt: on

VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _TABLE})


@checks.rules(ModelError, name=checks.TEXT)
def get_variant(name: str) -> Variant:
    """Look up a variant by its name.

    Args:
      name: a key of VARIANTS, such as "efficientnet-x-b0".

    Returns:
      The row of the table.

    Raises:
      ModelError: if there is none; the message proposes the nearest names.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    nearest = nearest_variants(str(name), VARIANTS)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ModelError(
        f"unknown variant {name!r}: {hint}`python -m models.catalogue` lists all names"
    )
