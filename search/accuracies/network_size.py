"""How large a network is over its family's base: in blocks, channels and pixels.

Imports no framework.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable

from models import scaling
from models.variants import StageSpec, Variant

_REDUCTIONS = 8  # halvings behind the stem, at most
# What a stage says beside its size.
_KINDS = tuple(
    field.name
    for field in dataclasses.fields(StageSpec)
    if field.name not in ("num_repeat", "output_filters")
)


def relative_size(variant: Variant, base: Variant) -> tuple[float, float, float]:
    """Return (depth, width, resolution) of a network as multiples of its base's.

    All three are of the network as it is built: depth counts blocks, width compares
    channels after rounding. So equal networks have equal sizes, whatever coefficients
    they were made with.

    Width is the geometric mean over the stages of output channels over the base's,
    each stage by the channels that all its blocks have in the base. In the mean of
    equal parts the rounding of 16 and 24 channels to multiples of 8 would weigh most:
    1.26 for EfficientNet-B3, whose coefficient is 1.2; so it is 1.21. A network with
    another number of stages than its base is compared where it has the same height and
    width: the mean of its stages there with the mean of the base's.

    Args:
      variant: any network.
      base: of depth 1 and width 1; its resolution does not count: 1 is 224 px.
    """
    own, its = _filters(variant), _filters(base)
    depth = sum(map(len, own)) / sum(map(len, its))
    if len(own) != len(its):
        own, its = _by_reduction(variant, own), _by_reduction(base, its)
    pairs = [(ours, theirs) for ours, theirs in zip(own, its, strict=True) if ours]
    pairs = [(ours, theirs) for ours, theirs in pairs if theirs]
    total = sum(sum(theirs) for _, theirs in pairs)
    logs = sum(sum(theirs) * (_log(ours) - _log(theirs)) for ours, theirs in pairs)
    return depth, math.exp(logs / total), variant.resolution / 224


def unseen(variant: Variant, base: Variant) -> list[str]:
    """Return what of a network its size does not tell, by fields that differ.

    Args:
      variant: any network.
      base: see `relative_size`.

    Returns:
      Names of fields of StageSpec in which a stage or a block differs from the base's,
      and "activation" of stem and head; or "stages" where their number differs.
    """
    if len(variant.stages) != len(base.stages):
        return ["stages"]
    pairs = list(zip(variant.stages, base.stages, strict=True))
    changed = {name for _, fields in variant.block_changes for name, _ in fields}
    names = [
        name
        for name in _KINDS
        if name in changed
        or any(getattr(a, name) != getattr(b, name) for a, b in pairs)
    ]
    if variant.activation != base.activation and "activation" not in names:
        names.append("activation")
    return names


def _filters(variant: Variant) -> list[list[int]]:
    """Return the output channels of every block, stage by stage.

    In a space-to-depth section they are those of a pixel of the network without it.
    """
    changes = {i: dict(fields) for i, fields in variant.block_changes}
    found: list[list[int]] = [[] for _ in variant.stages]
    for i, number in enumerate(scaling.stage_of_block(variant)):
        filters = changes.get(i, {}).get(
            "output_filters", variant.stages[number - 1].output_filters
        )
        width, loss = variant.width_coefficient, variant.max_width_loss
        found[number - 1].append(scaling.round_filters(filters, width, loss))
    return found


def _by_reduction(variant: Variant, filters: list[list[int]]) -> list[list[int]]:
    """Return channels by the size of the feature map: from the stem's on, halved."""
    reduction = 1
    found: list[list[int]] = [[] for _ in range(_REDUCTIONS)]
    for stage, channels in zip(variant.stages, filters, strict=True):
        reduction *= stage.strides
        # One number for a stage: repeats alone make no network wider.
        mean = round(math.exp(_log(channels)))
        at = min(round(math.log2(reduction)), _REDUCTIONS - 1)
        found[at].append(mean)
    return found


def _log(channels: Iterable[int]) -> float:
    """Return the mean logarithm."""
    return statistics.fmean(map(math.log, channels))
