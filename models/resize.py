"""A model for images of another size, made of the same layers."""

import dataclasses
from collections.abc import Iterable

import keras

from models import scaling
from models.blocks import run_chain
from models.errors import require
from models.input_form import InputForm, input_form
from models.layers import Dropout, FromHWCN
from models.parts import layers_of_parts, require_built_by_us, stem_patch_size


def at_resolution(
    model: keras.Model,
    resolution: int,
    *,
    dropout_rate: float | None = None,
    as_in_inference: Iterable[str] = (),
) -> keras.Model:
    """Make a model of the same layers, and so of the same variables, for another size.

    No weight depends on the size of the images. Progressive learning (EfficientNetV2,
    arXiv 2104.00298, section 4) trains the two models one after the other.

    Args:
      model: what `build_model` returned. It computes what it did; but its layers have
        two outputs from now on, so that `layer.output` of one is ambiguous.
      resolution: height and width of the images in pixels.
      dropout_rate: before the classifier, in [0, 1); None is that of `model`.
      as_in_inference: parts that are computed so, whatever `training` is: they move no
        statistics. `model` and its layers stay as they are.

    Returns:
      A model that takes its images in the form in which `model` does.

    Raises:
      ModelError: the network, or its form, cannot take images of this size, the rate
        is out of range, or there is no such part.
    """
    require_built_by_us(model)
    still = {id(layer) for layer in layers_of_parts(model, as_in_inference)}
    form = form_at_resolution(model, resolution)
    pixels = form.pixels()
    layers = [
        AsInInference(layer)
        if id(layer) in still
        else _adapted(layer, form, dropout_rate)
        for layer in model.layers[1:]
    ]
    return keras.Model(pixels, run_chain(layers, pixels), name=model.name)


class AsInInference(keras.Layer):
    """A layer with its weights, called as in inference even where a model trains.

    The flag `trainable` of the layer would say the same to all models that share it.
    """

    def __init__(self, layer: keras.Layer):
        """Take a layer that is built, under its own name."""
        super().__init__(name=layer.name, autocast=False)
        self.layer = layer

    def call(self, inputs):
        """Return what the layer makes of it."""
        return self.layer(inputs, training=False)


def form_at_resolution(model: keras.Model, resolution: int) -> InputForm:
    """Return what `at_resolution` would be fed with; arguments and errors are its."""
    require_built_by_us(model)
    require(
        type(resolution) is int and resolution >= 1,
        f"resolution must be an integer of 1 or more, not {resolution!r}",
    )
    blocks = [layer.spec for layer in model.layers if hasattr(layer, "spec")]
    scaling.check_resolution(model.name, resolution, blocks)
    scaling.check_patches(stem_patch_size(model), resolution)
    return dataclasses.replace(input_form(model), resolution=resolution)


def _adapted(
    layer: keras.Layer, form: InputForm, dropout_rate: float | None
) -> keras.Layer:
    """Return the layer itself unless it knows of what changes; such have no weights."""
    if isinstance(layer, FromHWCN):
        return FromHWCN(form.image_shape, name=layer.name)
    if isinstance(layer, Dropout) and dropout_rate is not None:
        return layer.at_rate(dropout_rate)
    return layer
