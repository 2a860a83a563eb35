"""The parts of a network by name: stem, stages, head, classifier."""

from collections.abc import Iterable

import keras

from common import checks
from models.errors import require

# Of a setting that names some of them.
PARTS = checks.items(
    lambda part: isinstance(part, str), "a list of parts, as ('stem',)"
)


def built_by_us(model: keras.Model) -> bool:
    """Whether `build_model` made the model."""
    names = {layer.name for layer in getattr(model, "layers", [])}
    return {"stem_conv", "block_0", "head_conv", "classifier"} <= names


def require_built_by_us(model: keras.Model) -> None:
    """Raise ModelError unless `build_model` made the model."""
    require(
        built_by_us(model),
        f"{getattr(model, 'name', model)!r} was not made by models.build_model",
    )


def parts(model: keras.Model) -> dict[str, list[keras.Layer]]:
    """Return the layers with weights by part, in the order of the computation.

    Args:
      model: what `build_model` returned.

    Returns:
      "stem", "stage_1", "stage_2", ..., "head", "classifier" -> layers.
    """
    require_built_by_us(model)
    found: dict[str, list[keras.Layer]] = {}
    for layer in model.layers:
        if layer.weights:
            found.setdefault(_part(layer), []).append(layer)
    return found


def layers_of_parts(model: keras.Model, names: Iterable[str]) -> list[keras.Layer]:
    """Return the layers with weights of some parts; ModelError for an unknown one."""
    names, known = list(names), parts(model)
    for name in names:
        require(
            name in known,
            f"frozen: {model.name} has no part {name!r}, only {', '.join(known)}",
        )
    return [layer for name in names for layer in known[name]]


def require_learning(model: keras.Model, frozen: Iterable[str]) -> None:
    """Refuse parts that there are not, or of which nothing would be left to learn."""
    frozen = list(frozen)
    layers_of_parts(model, frozen)
    require(
        bool(learning_variables(model, frozen)),
        f"frozen: {model.name} has nothing to learn",
    )


def learning_variables(
    model: keras.Model, frozen: Iterable[str] = ()
) -> list[keras.Variable]:
    """Return the trainable variables outside of some parts; see `outside`."""
    return outside(model, model.trainable_variables, frozen)


def outside(
    model: keras.Model, variables: Iterable[keras.Variable], frozen: Iterable[str]
) -> list[keras.Variable]:
    """Return those of a model's variables that are in none of some parts.

    Args:
      model: any; one that `build_model` returned where `frozen` is not empty.
      variables: of the model.
      frozen: parts of the model.
    """
    frozen = set(frozen)
    if not frozen:
        return list(variables)
    part_of = part_of_variable(model)
    return [v for v in variables if part_of[v.path] not in frozen]


def part_of_variable(model: keras.Model) -> dict[str, str]:
    """Return the part of every weight, by the weight's path."""
    return {
        variable.path: part
        for part, layers in parts(model).items()
        for layer in layers
        for variable in layer.weights
    }


def stem_patch_size(model: keras.Model) -> int:
    """Return n: the stem is computed on patches of n x n pixels."""
    return getattr(model.get_layer("stem_conv"), "patch_size", 1)


def _part(layer: keras.Layer) -> str:
    """Return the part that a layer of the model belongs to."""
    if hasattr(layer, "spec"):
        return f"stage_{layer.stage}"
    return layer.name.split("_")[0]
