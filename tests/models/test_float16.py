"""The network in float16 is the one in float32, but for rounding."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models import weight_loading

NAME = "efficientnet-x-b0"


@pytest.fixture(scope="module")
def logits(golden_weights, golden_pixels):
    """Function: policy, size -> the logits of two images, and the layers' leaves."""

    def compute(policy, size):
        model = models.build_model(NAME, dtype=policy, resolution=size)
        variables = weight_loading.in_reference_order(model)
        for variable, value in zip(variables, golden_weights(NAME), strict=True):
            variable.assign(value)
        layers = model._flatten_layers()
        leaves = [one for one in layers if not list(one._flatten_layers())[1:]]
        return model(tf.constant(golden_pixels(2, size))), leaves

    return compute


@pytest.mark.parametrize("size", [64, pytest.param(224, marks=pytest.mark.slow)])
def test_logits_are_those_of_float32(size, logits):
    """Each layer rounds its kernel and its output, by up to half an eps of float16.

    The errors are independent, and on average no layer makes them larger than it makes
    what it carries: the square of the logits' is the sum of the squares.
    """
    exact, _ = logits("float32", size)
    found, leaves = logits("mixed_float16", size)
    assert found.dtype == tf.float32
    roundings = 2 * len(leaves)
    scale = np.std(exact)
    allowed = np.finfo(np.float16).eps / 2 * np.sqrt(roundings) * scale
    error = np.sqrt(np.mean(np.square(found - exact)))
    # bfloat16, whose eps is eight times as large, would be outside.
    assert error < allowed < 8 * error
