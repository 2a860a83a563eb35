"""Parts of a network by name, for transfer: freeze, learn at other rates, extract."""

from collections.abc import Iterable

import keras

from models.parts import (
    layers_of_parts,
    require_built_by_us,
    require_learning,
    stem_patch_size,
)
from models.space_to_depth import BatchToSpace, DepthToSpace


def freeze(model: keras.Model, names: Iterable[str]) -> None:
    """Let parts keep their weights, moving statistics too, in training.

    Their blocks are computed as in inference: none is dropped.

    Args:
      model: what `build_model` returned.
      names: parts, see `parts`.

    Raises:
      ModelError: for an unknown part, or if nothing would be left to learn.
    """
    names = list(names)
    require_learning(model, names)
    for layer in layers_of_parts(model, names):
        layer.trainable = False


def feature_extractor(model: keras.Model) -> keras.Model:
    """Make a model from the same pixels to the feature maps, sharing all weights.

    Args:
      model: what `build_model` returned.

    Returns:
      A model to a dictionary: "reduction_1" [batch, size / 2, size / 2, channels] to
      "reduction_5", the last tensor of each size, as the reference's endpoints.
    """
    require_built_by_us(model)
    stem = model.get_layer("stem_activation").output
    if stem_patch_size(model) == 4:
        stem = DepthToSpace(2, name="stem_to_space")(stem)
    outputs, n = [stem], 1
    for layer in model.layers:
        if isinstance(layer, BatchToSpace):
            outputs[-1], n = layer.output, 1
        elif hasattr(layer, "spec"):
            if layer.spec.reduction > 1:
                if n > 1:  # a run of blocks that goes on at the next size
                    # Not Keras' own name, which one of the model's may have.
                    name = f"reduction_{len(outputs)}_to_space"
                    outputs[-1] = BatchToSpace(n, name=name)(outputs[-1])
                outputs.append(layer.output)
            outputs[-1], n = layer.output, layer.spec.space_to_batch
    named = {f"reduction_{n}": tensor for n, tensor in enumerate(outputs, start=1)}
    return keras.Model(model.input, named, name=f"{model.name}_features")
