"""timm's logits on random weights, recorded; tests/peers runs timm itself."""

import functools

import numpy as np
import pytest

from tests.models.rounding import assert_near, terms
from tests.peers import timm_weights

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def ours():
    """Function: timm's name -> its logits by size, our network with its weights."""

    @functools.cache
    def build(network):
        state, expected = timm_weights.recorded(network)
        return expected, timm_weights.our_network(network, state)

    return build


@pytest.mark.parametrize(
    ("network", "size"),
    [
        ("tf_efficientnet_b0", 64),
        ("tf_efficientnet_b0", 75),
        ("efficientnet_b0", 64),
        ("efficientnet_b0", 75),
        ("efficientnet_x_b3", 75),
        ("tf_efficientnet_lite0", 64),
        ("tf_efficientnet_lite0", 75),
        ("tf_efficientnetv2_b0", 64),
        ("tf_efficientnetv2_b0", 75),
        pytest.param("efficientnet_x_b3", 64, marks=slow),
        pytest.param("efficientnet_h_b5", 64, marks=slow),
        pytest.param("efficientnet_h_b5", 75, marks=slow),
        pytest.param("tf_efficientnet_lite4", 75, marks=slow),
        pytest.param("tf_efficientnetv2_b3", 75, marks=slow),
        pytest.param("tf_efficientnetv2_s", 75, marks=slow),
    ],
)
def test_logits(network, size, ours):
    expected, model = ours(network)
    assert np.abs(expected[size]).max() > 0.5
    assert_near(timm_weights.our_logits(model, size), expected[size], terms(model))


def test_the_other_padding_fits_and_is_wrong():
    state, expected = timm_weights.recorded("efficientnet_b0")
    model = timm_weights.our_network("tf_efficientnet_b0", state)
    logits = timm_weights.our_logits(model, 64)
    assert np.abs(logits - expected[64]).max() > 0.1
