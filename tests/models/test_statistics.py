"""Moving statistics of weights that were trained without."""

import numpy as np
import pytest

import models
from models.errors import ModelError
from models.statistics import recompute_statistics
from tests.models.nets import QUIET, tinier
from tests.models.rounding import assert_near, terms


@pytest.fixture(scope="module")
def model():
    return models.build_model(tinier(), num_classes=5, **QUIET)


def batches(count):
    rng = np.random.default_rng(count)
    return [rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32") for _ in range(count)]


def statistics(model):
    return {v.path: v.numpy() for v in model.weights if "moving_" in v.name}


def test_one_batch_is_normalised_as_in_training(model):
    (images,) = batches(1)
    expected = model(images, training=True)
    recompute_statistics(model, [images])
    found = model(images, training=False)
    # Of two forms of one normalisation, layer after layer.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_several_batches_have_the_mean_of_each(model):
    images = batches(3)
    single = []
    for one in images:
        recompute_statistics(model, [one])
        single.append(statistics(model))
    recompute_statistics(model, images)
    for path, found in statistics(model).items():
        expected = np.mean([one[path] for one in single], axis=0, dtype=np.float64)
        # The moving mean is also where a layer puts zero: other roundings of the sums
        # before, and of those over 16x16 pixels of four images.
        assert_near(found, expected, terms(model) + 4 * 16 * 16, least=1)


def test_training_goes_on_as_before(model):
    layer = model.get_layer("stem_bn")
    momentum, assign = layer.momentum, layer.assign_statistic
    with pytest.raises(ModelError, match="there is no batch"):
        recompute_statistics(model, [])
    assert (layer.momentum, layer.assign_statistic) == (momentum, assign)
