"""The network in float16 is the one in float32, but for rounding."""

import numpy as np
import pytest
import tensorflow as tf

import models
from models import weight_loading
from tests.models import nets

NAME = "efficientnet-x-b0"


def test_logits_are_those_of_float32(golden_pixels):
    """Of a network with each kind of block."""
    exact, half = (
        models.build_model(nets.tinier(), dtype=policy)
        for policy in ("float32", "mixed_float16")
    )
    half.set_weights(exact.get_weights())
    assert_only_rounding(exact, half, golden_pixels(2, 32))


@pytest.mark.slow
def test_logits_of_b0_are_those_of_float32(golden_weights, golden_pixels):
    """With the weights of the goldens, in the size that it is for."""
    exact, half = (
        models.build_model(NAME, dtype=policy)
        for policy in ("float32", "mixed_float16")
    )
    for model in (exact, half):
        variables = weight_loading.in_reference_order(model)
        for variable, value in zip(variables, golden_weights(NAME), strict=True):
            variable.assign(value)
    assert_only_rounding(exact, half, golden_pixels(2, 224))


def assert_only_rounding(full, half, pixels):
    """Each layer rounds its kernel and its output, by up to half an eps of float16.

    The errors are independent, and on average no layer makes them larger than it makes
    what it carries: the square of the logits' is the sum of the squares.
    """
    exact, found = (model(tf.constant(pixels)) for model in (full, half))
    layers = half._flatten_layers()
    leaves = [one for one in layers if not list(one._flatten_layers())[1:]]
    assert found.dtype == tf.float32
    roundings = 2 * len(leaves)
    scale = np.std(exact)
    allowed = np.finfo(np.float16).eps / 2 * np.sqrt(roundings) * scale
    error = np.sqrt(np.mean(np.square(found - exact)))
    # bfloat16, whose eps is eight times as large, would be outside.
    assert error < allowed < 8 * error
