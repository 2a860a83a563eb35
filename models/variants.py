"""Every variant of EfficientNet-X as one row of one table. Imports no framework.

Source: "Searching for Fast Model Families on Datacenter Accelerators" (CVPR 2021)
and the authors' tensorflow/tpu, models/official/efficientnet.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

SpaceToDepth = Literal["none", "enter", "leave"]


class ModelError(ValueError):
    """A request for a model that does not exist or cannot be built."""


def require(condition: bool, message: str) -> None:
    """Raise ModelError(message) unless the condition holds."""
    if not condition:
        raise ModelError(message)


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage before scaling; only its first block has the strides.

    `space_to_depth` says where the stage stands in the space-to-depth section, in
    which the network runs at half its resolution on four times the channels:
    "enter" opens the section, "leave" closes it, its stride being already paid.
    """

    num_repeat: int
    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    output_filters: int
    activation: str
    fused: bool = False
    se_ratio: float = 0.25
    space_to_depth: SpaceToDepth = "none"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named network: its stages and how far they are scaled.

    Raises:
        ModelError: if a coefficient, the resolution or the dropout rate is out of
            range, also when made by `dataclasses.replace`.
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

    def __post_init__(self):
        for field in ("width_coefficient", "depth_coefficient"):
            value = getattr(self, field)
            require(0 < value < math.inf, f"{field} must be above 0, not {value}")
        # The network divides its input by 32: below that its last stages see only
        # padding.
        require(
            isinstance(self.resolution, int) and self.resolution >= 32,
            f"resolution must be an integer of 32 or more, not {self.resolution}",
        )
        require(
            0 <= self.dropout_rate < 1,
            f"dropout_rate must be in [0, 1), not {self.dropout_rate}",
        )


# fmt: off
_X_STAGES = (
    # num_repeat, kernel_size, strides, expand_ratio, input, output, activation
    StageSpec(1, 3, 1, 1, 32, 16, "relu", space_to_depth="enter"),
    StageSpec(2, 3, 2, 6, 16, 24, "swish", fused=True, space_to_depth="leave"),
    StageSpec(2, 5, 2, 6, 24, 40, "swish", fused=True),
    StageSpec(3, 3, 2, 6, 40, 80, "relu"),
    StageSpec(3, 5, 1, 6, 80, 112, "relu"),
    StageSpec(4, 5, 2, 6, 112, 192, "relu"),
    StageSpec(1, 3, 1, 6, 192, 320, "relu"),
)

_TABLE = (
    # The family with EfficientNet's own coefficients, the paper's main table:
    # name, width, depth, resolution, dropout, se_coefficient, stages
    Variant("efficientnet-x-b0", 1.0, 1.0, 224, 0.2, 4, _X_STAGES),
    Variant("efficientnet-x-b1", 1.0, 1.1, 240, 0.2, 2, _X_STAGES),
    Variant("efficientnet-x-b2", 1.1, 1.2, 260, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-b3", 1.2, 1.4, 300, 0.3, 1, _X_STAGES),
    Variant("efficientnet-x-b4", 1.4, 1.8, 380, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-b5", 1.6, 2.2, 456, 0.4, 1, _X_STAGES),
    Variant("efficientnet-x-b6", 1.8, 2.6, 528, 0.5, 1, _X_STAGES),
    Variant("efficientnet-x-b7", 2.0, 3.1, 600, 0.5, 1, _X_STAGES),
    # Latency-aware compound scaling (LACS) for the TPU.
    Variant("efficientnet-x-tpu-b1", 1.05, 1.09, 229, 0.2, 2, _X_STAGES),
)
# fmt: on

VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _TABLE})


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
    nearest = _nearest_names(str(name))
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ModelError(
        f"unknown variant {name!r}: {hint}list(models.VARIANTS) has all the names"
    )


def _nearest_names(name: str) -> list[str]:
    """Return up to three names like this one; of equally near ones the smallest."""

    def likeness(known: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), known).ratio()

    # get_close_matches breaks ties by the alphabet backwards: b7 before b0.
    near = [known for known in VARIANTS if likeness(known) > 0.6]
    return sorted(near, key=likeness, reverse=True)[:3]
