"""timm's logits on random weights, recorded; tests/peers runs timm itself."""

import numpy as np
import pytest

from tests.peers import timm_weights

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("network", "size"),
    [
        ("tf_efficientnet_b0", 64),
        ("tf_efficientnet_b0", 75),
        ("efficientnet_b0", 64),
        ("efficientnet_b0", 75),
        ("efficientnet_x_b3", 75),
        pytest.param("efficientnet_x_b3", 64, marks=slow),
        pytest.param("efficientnet_h_b5", 64, marks=slow),
        pytest.param("efficientnet_h_b5", 75, marks=slow),
    ],
)
def test_logits(network, size):
    state, expected = timm_weights.recorded(network)
    assert np.abs(expected[size]).max() > 0.5
    logits = timm_weights.our_logits(network, size, state)
    np.testing.assert_allclose(logits, expected[size], atol=1e-4, rtol=0)


def test_the_other_padding_fits_and_is_wrong():
    state, expected = timm_weights.recorded("efficientnet_b0")
    logits = timm_weights.our_logits("tf_efficientnet_b0", 64, state)
    assert np.abs(logits - expected[64]).max() > 0.1
