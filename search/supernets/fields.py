"""What a supernet lets vary: fields of stages, their values, when they count.

Imports no framework.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from common.errors import UserError
from models.variants import StageSpec, Variant
from search.networks import choices
from search.networks.choices import Choice
from search.networks.layout import Layout
from search.networks.space import Space

_SEARCHED = (
    *("fused", "kernel_size", "expand_ratio", "output_filters", "num_repeat"),
    *("se_ratio", "activation", "skip", "space_to_batch"),
)
# A function of all channels: of those that a network has not, too.
_OVER_CHANNELS = ("softmax", "log_softmax", "sparsemax")
_SECTIONS = "space_to_depth"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field, and the values that it has in the networks of a space.

    Attributes:
      stage: number of the stage, from 1; 0 is the network.
      field: of StageSpec. Of the network "space_to_depth": every stage's.
      values: as they stand in StageSpec, those of the choice in its order. Factors may
        make two equal ones.
      place: of the choice in the space; None where the field does not vary.
      otherwise: index of the value where the choice does not count; None where it
        always does.
    """

    stage: int
    field: str
    values: tuple[Any, ...]
    place: int | None = None
    otherwise: int | None = None

    @property
    def varies(self) -> bool:
        """Whether there is anything to choose."""
        return self.place is not None


class Fields:
    """All fields of a space that a supernet of it can have.

    Attributes:
      base: the space's, with the choices that leave no choice.
      conditions: see `search.networks.layout.Layout`.
      sections: every stage's space_to_depth, as one value; None where it does not vary.

    Raises:
      UserError: a choice is none that one network could contain; says what to do.
    """

    def __init__(self, space: Space):
        self.conditions = Layout(space.choices).conditions
        self.base = space.base
        self.sections: Axis | None = None
        self._axes: dict[tuple[int, str], Axis] = {}
        found = [_axis(i, choice, space) for i, choice in enumerate(space.choices)]
        for axis, choice in zip(found, space.choices, strict=True):
            if len(set(axis.values)) == 1:
                self.base = choices.apply(self.base, [(choice, choice.values[0])])
            elif (axis.stage, axis.field) == (0, _SECTIONS):
                self.sections = axis
            else:
                _check(axis, choice, space)
                self._axes[axis.stage, axis.field] = axis
        self._check_base(space.name)

    def axis(self, stage: int, field: str) -> Axis:
        """Return a stage's axis, of one value where it does not vary."""
        if (axis := self._axes.get((stage, field))) is not None:
            return axis
        return Axis(stage, field, (getattr(self.base.stages[stage - 1], field),))

    def _check_base(self, name: str) -> None:
        """Refuse what the base has and no supernet can have."""
        if self.base.block_changes:
            raise UserError(
                f"{name}: the base has changes to single blocks, which a supernet has "
                "not; give the stages what they are to have"
            )
        for number, stage in enumerate(self.base.stages, start=1):
            activations = self.axis(number, "activation").values
            if over := [one for one in activations if one in _OVER_CHANNELS]:
                raise UserError(
                    f"{name}: stage {number}: {over[0]} is a function of all channels, "
                    "of those that a network has not, too; a supernet can't have it"
                )
            free = self.axis(number, "fused"), self.axis(number, "expand_ratio")
            if not (stage.project or [set(a.values) for a in free] == [{True}, {1}]):
                raise UserError(
                    f"{name}: stage {number} of the base has project = False, which "
                    "needs fused = True and expand_ratio = 1 in every network; set "
                    "project = True in the base, or let these two not vary"
                )


def _axis(place: int, choice: Choice, space: Space) -> Axis:
    """Return the axis of a choice."""
    chosen = _chosen(choice, space.base)
    values = [_value(choice, choices.apply(space.base, [pair])) for pair in chosen]
    field, otherwise = choice.target, None
    if choice.conditions:
        *values, last = values
        if last not in values:
            values.append(last)
        otherwise = values.index(last)
    return Axis(choice.stage, field, tuple(values), place, otherwise)


def _chosen(choice: Choice, base: Variant) -> list[tuple[Choice, Any]]:
    """Return the choice with each value, and last with that where it does not count."""
    pairs = [(choice, value) for value in choice.values]
    if not choice.conditions:
        return pairs
    if choice.otherwise is not None:
        return [*pairs, (choice, choice.otherwise)]
    field, value = choice.target, _of_base(choice, base)
    name = f"{choice.stage}.{field}" if choice.stage else field
    return [*pairs, (Choice(name, (value,)), value)]


def _of_base(choice: Choice, base: Variant) -> Any:
    """Return what the base has where a choice does not count."""
    if choice.stage:
        return getattr(base.stages[choice.stage - 1], choice.target)
    if choice.field != _SECTIONS:
        return getattr(base, choice.field)
    if any(stage.space_to_depth != "none" for stage in base.stages):
        raise UserError(
            "space_to_depth counts only `when` others do, and the base has a section "
            "for where it does not: a supernet needs a base without"
        )
    return "none"


def _value(choice: Choice, variant: Variant) -> Any:
    """Return what a choice has set in a variant."""
    if choice.stage:
        return getattr(variant.stages[choice.stage - 1], choice.target)
    if choice.field == _SECTIONS:
        return tuple(stage.space_to_depth for stage in variant.stages)
    return getattr(variant, choice.field)


def _check(axis: Axis, choice: Choice, space: Space) -> None:
    """Refuse a choice that one network cannot contain."""
    if not axis.stage or axis.field not in _SEARCHED:
        raise UserError(
            f"{space.name}: {choice.name}: a supernet cannot hold networks that differ "
            "in it; fix it in the base, or search it with `search.blocks`"
        )
    if axis.field == "kernel_size" and (even := [k for k in axis.values if not k % 2]):
        raise UserError(
            f"{space.name}: {choice.name}: {even[0]}: kernels share their centre in a "
            "supernet, and an even one has none; take odd sizes"
        )


def with_stages(
    base: Variant, fields: Sequence[tuple[int, str, Any]], forms: Sequence[str]
) -> Variant:
    """Return a variant with fields of stages and every stage's space_to_depth."""
    by_stage: list[dict[str, Any]] = [{"space_to_depth": form} for form in forms]
    for stage, field, value in fields:
        by_stage[stage - 1][field] = value
    stages: list[StageSpec] = [
        dataclasses.replace(stage, **changed)
        for stage, changed in zip(base.stages, by_stage, strict=True)
    ]
    return dataclasses.replace(base, stages=tuple(stages))
