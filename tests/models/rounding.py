"""How far apart two computations of the same thing may be, by what they consist of.

A rounding is off by a part of the dtype's eps, at random, so that a sum of N rounded
terms is off by about eps * sqrt(N) of its size, two sums by twice that, and there is a
margin of two on top: 4 * eps * sqrt(N) * scale.
"""

import math

import numpy as np

EPS = 2.0**-23  # of float32


def atol(terms, like):
    """The absolute tolerance of sums of so many terms that are as large as `like`."""
    return 4 * EPS * math.sqrt(terms) * float(np.abs(like).max())


def terms(model):
    """The terms on the way through a network: of an output of each convolution."""
    return sum(
        math.prod(v.shape[:2] if "depthwise" in v.path else v.shape[:-1])
        for v in model.weights
        if "kernel" in v.name
    )


def bfloat16_error(model):
    """The relative error where each layer rounds what it writes: 2^-9 in the mean."""
    layers = sum(1 for _ in model._flatten_layers())
    return 4 * 2.0**-9 * math.sqrt(layers)


def assert_near(found, expected, terms, least=0.0):
    """Compare arrays, as far as sums of so many terms can agree.

    Sums that cancel, to gradients of nothing, have terms as large as `least`.
    """
    like = np.maximum(np.abs(expected), least)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol(terms, like))
