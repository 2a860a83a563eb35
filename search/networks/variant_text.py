"""A network as text: a gin file that a training takes, a row of the variants' table.

Imports no framework.
"""

import dataclasses
import json
import re
import textwrap
from typing import Any

from models import variants
from models.variants import StageSpec, Variant

# What a recipe may say of the network, and this one says itself.
_BUILD_MODEL = (
    "width_coefficient",
    "depth_coefficient",
    "resolution",
    "dropout_rate",
    "stages",
    "blocks",
    "batch_norm_epsilon",
    "dialect",
)
_IMPORTS = """\
from __gin__ import dynamic_registration
from models import efficientnet_x
from models import variants
"""
_WIDTH = 88  # columns of a row


def variant_gin(variant: Variant) -> str:
    r"""Return a gin file that says this network and nothing else.

    It stands BEHIND the recipe, whose own network it replaces:

        python -m train.main --gin_file=gin_configs/runs/imagenet_tpu.gin \
          --gin_file=NETWORK.gin --model_dir=DIR

    Every field is written, defaults too, so that no binding of the recipe's changes
    the network. What belongs to the training stays the recipe's: classes, survival_prob
    and batch_norm_momentum of build_model.
    """
    lines = [
        f"# {_comment(variant.name)}; this file stands behind that of the recipe.",
        _IMPORTS.rstrip(),
        "",
        "efficientnet_x.build_model:",
        "  variant = @network/variants.Variant()",
        *(f"  {name} = None" for name in _BUILD_MODEL),
        "",
        "network/variants.Variant:",
    ]
    scopes = [f"stage_{number}" for number in range(1, len(variant.stages) + 1)]
    for name, value in _fields(variant).items():
        if name == "stages":
            lines.append("  stages = (")
            lines += [f"    @{scope}/variants.StageSpec()," for scope in scopes]
            lines.append("  )")
        else:
            lines.append(f"  {name} = {_literal(value)}")
    for scope, stage in zip(scopes, variant.stages, strict=True):
        lines += ["", f"{scope}/variants.StageSpec:"]
        lines += [f"  {n} = {_literal(value)}" for n, value in _fields(stage).items()]
    return "\n".join(lines) + "\n"


def variant_row(variant: Variant) -> str:
    """Return the network as Python: a row for the table of `models.variants`.

    Stages that a row of the table has already go by their name there, as _X_STAGES;
    others are written out. Fields that have their defaults are left out.
    """
    words = _words(variant, stages=_stages(tuple(variant.stages)))
    line = f"Variant({', '.join(words)}),"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    return "Variant(\n" + textwrap.indent(",\n".join(words), "    ") + ",\n),"


def _stages(stages: tuple[StageSpec, ...]) -> str:
    for name, value in vars(variants).items():
        if name.endswith("_STAGES") and value == stages:
            return name
    return "(\n" + "".join(f"    {_stage(stage)},\n" for stage in stages) + ")"


def _stage(stage: StageSpec) -> str:
    return f"StageSpec({', '.join(_words(stage))})"


def _words(one: Variant | StageSpec, **written: str) -> list[str]:
    """Return the arguments that make this object, those with defaults by name."""
    words = []
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        text = written.get(field.name) or _literal(value)
        if field.default is dataclasses.MISSING:
            words.append(text)
        elif value != field.default:
            words.append(f"{field.name}={text}")
    return words


def _literal(value: Any) -> str:
    """Return a value of a field as Python, and gin, write it.

    Numbers of numpy's are such values, too: they are written as Python's own.
    """
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(_literal, value))}{comma})"
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return repr(kind(value))
    raise TypeError(f"{value!r} is no field of a variant")


def _fields(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


def _comment(text: str) -> str:
    """Return a text that stays in its line."""
    return re.sub(r"[^ -~]", "?", text)
