"""models/ on Keras' other backend: the same weights give the same numbers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models import weight_loading
from tests.models.nets import FORMS, QUIET, tinier
from tests.models.rounding import assert_near, terms


@pytest.fixture(scope="module")
def in_jax(tmp_path_factory):
    """Function: arrays by name -> what the JAX process computes from them."""

    def run(given):
        folder = tmp_path_factory.mktemp("jax")
        source, target = folder / "given.npz", folder / "results.npz"
        np.savez(source, **given)
        command = [sys.executable, "-m", "tests.models.jax_process", source, target]
        environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compile times
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        with np.load(target) as results:
            return dict(results)

    return run


def randomised(**form):
    """A model whose biases and batch norm are as training would leave them."""
    model = models.build_model(tinier(), **QUIET, **form)
    random = np.random.default_rng(5)
    for variable in model.weights:
        if len(variable.shape) == 1:
            variable.assign(np.abs(1 + 0.2 * random.normal(size=variable.shape)))
    return model


def entries(name, model, pixels):
    variables = weight_loading.in_reference_order(model)
    values = {f"{name}/weights/{i}": v.numpy() for i, v in enumerate(variables)}
    return {f"{name}/pixels": pixels, **values}


def pixels_for(model):
    shape = [4 if side is None else side for side in model.input_shape]
    return np.random.default_rng(6).uniform(0, 255, shape).astype(np.float32)


@pytest.mark.long
def test_every_form_gives_the_same_numbers(in_jax):
    built = {name: randomised(**form) for name, form in FORMS.items()}
    pixels = {name: pixels_for(model) for name, model in built.items()}
    targets = np.random.default_rng(7).normal(size=(4, 1000)).astype(np.float32)
    given = {"targets": targets}
    for name, model in built.items():
        given |= entries(name, model, pixels[name])
    found = in_jax(given)

    for name, model in built.items():
        logits = keras.ops.convert_to_numpy(model(pixels[name], training=False))
        assert np.abs(logits).max() > 0.1
        assert_near(found[name], logits, terms(model))

    model = built["plain"]
    with tf.GradientTape() as tape:
        logits = model(pixels["plain"], training=True)
        loss = tf.reduce_sum(logits * targets)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    # There and back, and in the middle the sums over four times 16x16 pixels.
    passed = 2 * terms(model) + 4 * 16 * 16
    assert_near(found["logits/0"], keras.ops.convert_to_numpy(logits), passed)
    for i, gradient in enumerate(map(keras.ops.convert_to_numpy, gradients)):
        # What comes from above is normal.
        assert_near(found[f"gradients/{i}"], gradient, passed, least=1)
    statistics = [v for v in model.non_trainable_variables if "moving" in v.name]
    after = [found[key] for key in found if key.startswith("after/")]
    after = [value for value in after if value.ndim == 1 and value.dtype == np.float32]
    for variable, value in zip(statistics, after, strict=True):
        assert_near(value, variable.numpy(), passed)


@pytest.mark.slow
def test_golden_logits_in_jax(
    in_jax, golden_weights, golden_pixels, golden_arrays, golden_model
):
    values = golden_weights("efficientnet-x-b0")
    given = {f"golden/weights/{i}": value for i, value in enumerate(values)}
    found = in_jax({"golden/pixels": golden_pixels(2, 64), **given})
    expected = golden_arrays("efficientnet-x-b0")["infer_logits"]
    model = golden_model("efficientnet-x-b0", 64)
    assert_near(found["golden"], expected, terms(model))
