"""Parts of a network by name, for transfer: freeze, learn at other rates, extract."""

from collections.abc import Iterable

import keras

from models.reshuffle import BatchToSpace, DepthToSpace
from models.variants import require


def is_ours(model: keras.Model) -> bool:
    """Whether `build_model` made the model."""
    names = {layer.name for layer in getattr(model, "layers", [])}
    return {"stem_conv", "block_0", "head_conv", "classifier"} <= names


def require_ours(model: keras.Model) -> None:
    """Raise ModelError unless `build_model` made the model."""
    require(
        is_ours(model),
        f"{getattr(model, 'name', model)!r} was not made by models.build_model",
    )


def parts(model: keras.Model) -> dict[str, list[keras.Layer]]:
    """Return the layers with weights by part, in the order of the computation.

    Args:
        model: what `build_model` returned.

    Returns:
        "stem", "stage_1", "stage_2", ..., "head", "classifier" -> layers.
    """
    require_ours(model)
    found: dict[str, list[keras.Layer]] = {}
    for layer in model.layers:
        if layer.weights:
            found.setdefault(_part(layer), []).append(layer)
    return found


def part_of_variable(model: keras.Model) -> dict[str, str]:
    """Return the part of every weight, by the weight's path."""
    return {
        variable.path: part
        for part, layers in parts(model).items()
        for layer in layers
        for variable in layer.weights
    }


def freeze(model: keras.Model, names: Iterable[str]) -> None:
    """Let parts keep their weights, moving statistics too, in training.

    Args:
        model: what `build_model` returned.
        names: parts, see `parts`.

    Raises:
        ModelError: for an unknown part, or if nothing would be left to learn.
    """
    known = parts(model)
    require(
        not isinstance(names, str),
        f"frozen must be a list of parts, not {names!r}: write ({names!r},)",
    )
    names = list(names)
    for name in names:
        require(
            name in known,
            f"frozen: {model.name} has no part {name!r}, only {', '.join(known)}",
        )
    for layer in (layer for name in names for layer in known[name]):
        layer.trainable = False
    require(
        bool(model.trainable_variables), f"frozen: {model.name} has nothing to learn"
    )


def feature_extractor(model: keras.Model) -> keras.Model:
    """Make a model from the same pixels to the feature maps, sharing all weights.

    Args:
        model: what `build_model` returned.

    Returns:
        A model to a dictionary: "reduction_1" [batch, size / 2, size / 2, channels] to
        "reduction_5", the last tensor of each size, as the reference's endpoints.
    """
    require_ours(model)
    stem = model.get_layer("stem_activation").output
    if getattr(model.get_layer("stem_conv"), "block_size", 1) == 4:
        stem = DepthToSpace(2, name="stem_to_space")(stem)
    outputs, n = [stem], 1
    for layer in model.layers:
        if isinstance(layer, BatchToSpace):
            outputs[-1], n = layer.output, 1
        elif hasattr(layer, "spec"):
            if layer.spec.reduction > 1:
                if n > 1:  # a run of blocks that goes on at the next size
                    outputs[-1] = BatchToSpace(n)(outputs[-1])
                outputs.append(layer.output)
            outputs[-1], n = layer.output, layer.spec.space_to_batch
    named = {f"reduction_{n}": tensor for n, tensor in enumerate(outputs, start=1)}
    return keras.Model(model.input, named, name=f"{model.name}_features")


def _part(layer: keras.Layer) -> str:
    """Return the part that a layer of the model belongs to."""
    if hasattr(layer, "spec"):
        return f"stage_{layer.stage}"
    return layer.name.split("_")[0]
