"""A network as JSON: the row of the table that is nearest to it, and what differs.

Imports no framework.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from common.errors import UserError
from models.errors import ModelError
from models.variants import VARIANTS, StageSpec, Variant, change, get_variant

_OWN = ("name", "stages", "block_changes")  # each written in its own way
_TUPLES = ("mean_rgb", "std_rgb")
# What a file that somebody has changed may make Python say.
_BROKEN = (KeyError, TypeError, ValueError, AttributeError)


def describe(variant: Variant) -> dict[str, Any]:
    """Return a network as JSON, without its name.

    Returns:
      "base", a name of the table; "fields" of Variant that differ; "stages", by the
      stage's number from 1 the fields of StageSpec that differ, or all stages where
      there are others; "block_changes". What does not differ is left out.
    """
    base = min(VARIANTS.values(), key=lambda row: _difference(row, variant))
    fields = {
        name: value
        for name, value in _fields(variant).items()
        if getattr(base, name) != value
    }
    found: dict[str, Any] = {"base": base.name}
    if fields:
        found["fields"] = {
            name: list(value) if name in _TUPLES else value
            for name, value in fields.items()
        }
    if stages := _stages(base, variant):
        found["stages"] = stages
    if variant.block_changes:
        found["block_changes"] = {
            str(block): dict(changed) for block, changed in variant.block_changes
        }
    return found


def restore(name: str, description: Mapping[str, Any]) -> Variant:
    """Return the network of a description.

    Raises:
      UserError: it describes none.
    """
    try:
        base = get_variant(description["base"])
        fields = dict(description.get("fields", {}))
        for colors in fields.keys() & set(_TUPLES):
            fields[colors] = tuple(fields[colors])
        stages = description.get("stages", {})
        if isinstance(stages, list):
            fields["stages"] = tuple(StageSpec(**stage) for stage in stages)
            stages = {}
        base = dataclasses.replace(base, name=name, block_changes=(), **fields)
        return change(
            base,
            {int(number): one for number, one in stages.items()},
            {
                int(block): one
                for block, one in description.get("block_changes", {}).items()
            },
        )
    except ModelError as error:
        raise UserError(f"{name}: {error}") from error
    except _BROKEN as error:
        raise UserError(
            f"{name}: {description!r} describes no network ({error!r})"
        ) from error


def _fields(variant: Variant) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(variant))
    return {name: getattr(variant, name) for name in names if name not in _OWN}


def _difference(row: Variant, variant: Variant) -> tuple[int, int]:
    """Return how much of the stages, and of the rest, a row has otherwise."""
    stages = _stages(row, variant)
    if isinstance(stages, list):
        number = sum(map(len, stages))
    else:
        number = sum(map(len, stages.values()))
    own = _fields(variant)
    return number, sum(getattr(row, name) != value for name, value in own.items())


def _stages(base: Variant, variant: Variant) -> dict[str, Any] | list[dict[str, Any]]:
    """Return what differs by the stage's number, or all stages."""
    if len(base.stages) != len(variant.stages):
        return [dataclasses.asdict(stage) for stage in variant.stages]
    pairs = zip(base.stages, variant.stages, strict=True)
    found = {}
    for number, (theirs, own) in enumerate(pairs, start=1):
        if own != theirs:
            old = dataclasses.asdict(theirs)
            new = dataclasses.asdict(own)
            found[str(number)] = {k: v for k, v in new.items() if old[k] != v}
    return found
