"""Spaces of networks by name, and one's own in a few lines of gin.

    from __gin__ import dynamic_registration
    from search import spaces

    spaces.blocks:
      base = 'efficientnet-x-b0'
      stages = {
          'all': {'activation': ['relu', 'swish']},
          2: {'fused': [True, False], 'kernel_size': [3, 5]},
      }
      space_to_depth = ['none', 'conv 1-2']
      resolution = [192, 224]

Imports no framework.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from common import checks
from common.errors import UserError
from models import complexity
from models.scaling import block_specs
from models.variants import Variant, get_variant
from search import axes
from search.networks.choices import Choice
from search.networks.digests import digest
from search.networks.layout import Network
from search.networks.space import Constraint, Exhausted, Space

__all__ = [
    "Choice",
    "Constraint",
    "Exhausted",
    "Limits",
    "Network",
    "Space",
    "blocks",
    "digest",
    "paper",
    "scaling",
]

# Stage, or 'all', or of the network: choices by field.
_Fields = Mapping[str, Sequence[Any]]
_ALL = "all"
_EXAMPLES = {
    "stages": "{2: {'kernel_size': [3, 5]}}",
    "network": "{'stem_filters': [24, 32]}",
    "when": "{'2.se_ratio': {'2.fused': [False]}}",
}
# A block may do without its projection only so.
_NO_PROJECTION = {"fused": True, "expand_ratio": 1}


@dataclasses.dataclass(frozen=True)
class Limits:
    """A constraint: what no network of a space may exceed; None is no limit.

    Attributes:
      blocks: of the network.
      gmacs: 1e9 multiply-accumulates of one image, see `models.complexity`.
      million_params: trainable parameters, for 1,000 classes.
    """

    blocks: int | None = None
    gmacs: float | None = None
    million_params: float | None = None

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "blocks": checks.optional(checks.whole(1, 10**6)),
        "gmacs": checks.optional(checks.positive(10**9)),
        "million_params": checks.optional(checks.positive(10**9)),
    }

    def __post_init__(self):
        checks.require_fields(self)

    def __call__(self, variant: Variant) -> str:
        """Return which limit a variant exceeds, or ""."""
        number = len(block_specs(variant))
        if self.blocks is not None and number > self.blocks:
            return f"{number} blocks are more than {self.blocks}"
        if self.gmacs is None and self.million_params is None:
            return ""
        cost = complexity.total(variant)
        gmacs, params = cost.macs / 1e9, cost.trainable_params / 1e6
        if self.gmacs is not None and gmacs > self.gmacs:
            return f"{gmacs:.3g} GMACs are more than {self.gmacs:g}"
        if self.million_params is not None and params > self.million_params:
            return f"{params:.3g} M parameters are more than {self.million_params:g} M"
        return ""


@checks.rules(name=checks.TEXT)
def blocks(
    base: str | Variant,
    stages: Mapping[Any, _Fields] | None = None,
    *,
    space_to_depth: Sequence[str] | None = None,
    resolution: Sequence[int] | None = None,
    width_coefficient: Sequence[float] | None = None,
    depth_coefficient: Sequence[float] | None = None,
    network: _Fields | None = None,
    when: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    constraints: Sequence[Constraint] = (),
    name: str = "blocks",
) -> Space:
    """Return a space of one's own.

    Args:
      base: a name in the table of variants, or a Variant; gives what does not vary.
      stages: by the number of the stage from 1, or 'all', the fields that vary and
        their values; see `networks.choices.Choice`. A stage's own win over 'all'.
      space_to_depth: sections, as ['none', 'conv 1-2'].
      resolution: heights and widths of the input in pixels.
      width_coefficient: factors of all channels.
      depth_coefficient: factors of the blocks in each stage.
      network: further fields of the network and their values.
      when: by a choice's name, as '2.se_ratio', the values of other choices with which
        it counts: {'2.se_ratio': {'2.fused': [False]}}. `project` needs none: it counts
        where a block may do without its projection.
      constraints: see `Space`.
      name: of the space.

    Raises:
      UserError: there is no such base, stage or field, or no such value; says where.
    """
    row = _base(base)
    for field, found in (("stages", stages), ("network", network), ("when", when)):
        if not (found is None or isinstance(found, Mapping)):
            raise UserError(
                f"spaces.blocks.{field} = {found!r}: it has to be a dict, as "
                f"{_EXAMPLES[field]}"
            )
    given = {
        "space_to_depth": space_to_depth,
        "resolution": resolution,
        "width_coefficient": width_coefficient,
        "depth_coefficient": depth_coefficient,
        **(network or {}),
    }
    values = {field: found for field, found in given.items() if found is not None}
    for number, fields in _by_stage(row, stages or {}).items():
        values |= {f"{number}.{field}": found for field, found in fields.items()}
    conditions = dict(when or {})
    for unknown in conditions.keys() - values.keys():
        raise UserError(f"when: there is no choice {unknown!r} in this space")
    for choice, condition in conditions.items():
        if not isinstance(condition, Mapping):
            raise UserError(
                f"spaces.blocks.when: {choice}: {condition!r} is no dict of values by "
                "choice"
            )
    made = [
        Choice(choice, found, conditions.get(choice, ()), None)
        for choice, found in values.items()
    ]
    made = [_project(choice, values, row) for choice in made]
    return Space(row, tuple(made), _constraints(constraints), name)


def scaling(
    base: str | Variant,
    *,
    width_coefficient: Sequence[float] | None = None,
    depth_coefficient: Sequence[float] | None = None,
    resolution: Sequence[int] | None = None,
    constraints: Sequence[Constraint] = (),
) -> Space:
    """Return the space of compound scaling: width, depth and resolution alone.

    Args:
      base: what is scaled.
      width_coefficient: the default is 1 to 2 by .05.
      depth_coefficient: the default has each number of blocks once, from the base's to
        64, see `axes.depths`.
      resolution: in pixels; the default is 160 to 600 by 8.
      constraints: see `Space`.

    Raises:
      UserError: as of `blocks`.
    """
    row = _base(base)
    return blocks(
        row,
        width_coefficient=width_coefficient or [1 + i / 20 for i in range(21)],
        depth_coefficient=depth_coefficient or list(axes.depths(row)),
        resolution=resolution or list(range(160, 601, 8)),
        constraints=constraints,
        name="scaling",
    )


def paper(base: str | Variant = "efficientnet-x-b0") -> Space:
    """Return a RECONSTRUCTION of the paper's search space, named so.

    The paper (section 3) tells what varies: kernel, MBConv or fused, expansion,
    filters, layers, SE ratio, skip, activation, space-to-depth and space-to-batch. Its
    lists of values are in no public code: those here are ours, around the base's.
    """
    row = _base(base)
    stages: dict[int, dict[str, list[Any]]] = {}
    last_at_14_pixels = 5  # behind it, 7 x 7 pixels have no halves
    for number, stage in enumerate(row.stages, start=1):
        stages[number] = {
            "fused": [False, True],
            "kernel_size": [3, 5],
            "se_ratio": [0, 0.25],
            "activation": ["relu", "swish"],
            "output_filters_factor": [0.75, 1.0, 1.25],
            "num_repeat_change": [-1, 0, 1] if stage.num_repeat > 1 else [0, 1],
            "skip": [True, False],
        }
        if number > 1:
            stages[number]["expand_ratio"] = [3, 4, 6]
        if number <= last_at_14_pixels:
            stages[number]["space_to_batch"] = [1, 2]
    return blocks(
        row,
        stages,
        space_to_depth=["none", "conv 1-2", "reshuffle 1-2", "conv 2-3"],
        name="paper-reconstruction",
    )


def _base(base: str | Variant) -> Variant:
    """Return the variant of a name."""
    if isinstance(base, str):
        return get_variant(base)
    if isinstance(base, Variant):
        return base
    raise UserError(
        f"base has to be a name, or @variants.Variant() with the parentheses, "
        f"not {base!r}"
    )


def _constraints(given: Any) -> tuple[Constraint, ...]:
    """Return the constraints of a list; a class is none, what it makes may be one."""
    where = f"constraints = {given!r}"
    if not isinstance(given, list | tuple):
        raise UserError(f"{where}: it has to be a list, as [@spaces.Limits()]")
    for one in given:
        if isinstance(one, type):
            raise UserError(
                f"constraints: @{one.__name__}: the () behind it is missing"
            )
        if not callable(one):
            raise UserError(f"{where}: {one!r} cannot be called, as @spaces.Limits()")
    return tuple(given)


def _by_stage(
    base: Variant, stages: Mapping[Any, _Fields]
) -> dict[int, dict[str, Sequence[Any]]]:
    """Return the fields of each stage, those of all stages among them."""
    for key, fields in stages.items():
        if key != _ALL and not (type(key) is int and key >= 1):
            raise UserError(
                f"stages: {key!r} is no number of a stage from 1, and not {_ALL!r}"
            )
        if not isinstance(fields, Mapping):
            raise UserError(f"stages: {key}: {fields!r} is no dict of values by field")
    general = stages.get(_ALL, {})
    numbers = dict.fromkeys(range(1, len(base.stages) + 1)) if general else {}
    own = [key for key in stages if key != _ALL]
    return {n: {**general, **stages.get(n, {})} for n in sorted({*numbers, *own})}


def _project(
    choice: Choice, values: Mapping[str, Sequence[Any]], base: Variant
) -> Choice:
    """Return a choice of `project` so that it counts only where it is allowed."""
    known = 1 <= choice.stage <= len(base.stages)
    if choice.field != "project" or False not in choice.values or not known:
        return choice
    when: dict[str, Sequence[Any]] = dict(choice.conditions)
    for field, needed in _NO_PROJECTION.items():
        other = f"{choice.stage}.{field}"
        possible = values.get(other, [getattr(base.stages[choice.stage - 1], field)])
        if needed not in possible:
            raise UserError(
                f"{choice.name}: False needs {field} = {needed}, which stage "
                f"{choice.stage} never has"
            )
        if other in values:
            when.setdefault(other, [needed])
    return dataclasses.replace(choice, when=when, otherwise=True)
