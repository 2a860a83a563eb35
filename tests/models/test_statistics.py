"""Moving statistics of weights that were trained without."""

import keras
import numpy as np
import pytest

import models
from models import parts, resize
from models.batch_norm import BatchNormalization
from models.errors import ModelError
from models.layers import Dropout, StochasticDepth
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


def linear(**frozen):
    """Two products, each normalised; what is in between would drop most of it."""
    inputs = keras.Input((6, 5))
    layers = [
        keras.layers.Dense(4, use_bias=False, name="first"),
        BatchNormalization(name="first_bn", momentum=0.9),
        StochasticDepth(0.1),
        Dropout(0.9),
        keras.layers.Dense(3, name="second"),
        BatchNormalization(name="second_bn", **frozen),
    ]
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def numpys(model, batches):
    """The means over batches of each batch's mean and variance, layer by layer."""
    found = {"first_bn": [], "second_bn": []}
    for x in batches:
        x = x.astype(np.float64)
        for name in ("first", "second"):
            layer, norm = model.get_layer(name), model.get_layer(f"{name}_bn")
            x = x @ layer.kernel.numpy().astype(np.float64)
            if layer.use_bias:
                x = x + layer.bias.numpy()
            mean, variance = x.mean(axis=(0, 1)), x.var(axis=(0, 1))
            found[f"{name}_bn"].append((mean, variance))
            x = (x - mean) / np.sqrt(variance + norm.epsilon)
            x = x * norm.gamma.numpy() + norm.beta.numpy()
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def test_a_linear_network_has_numpys_means():
    model = linear()
    rng = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    batches = [rng.normal(i, 2, (7, 6, 5)).astype("float32") for i in range(4)]
    keep = [layer.keep_prob for layer in model.layers if hasattr(layer, "keep_prob")]
    assert recompute_statistics(model, batches) == 2
    for name, (mean, variance) in numpys(model, batches).items():
        layer = model.get_layer(name)
        # Sums over 42 places of what are sums of five; a variance is of squares.
        assert_near(layer.moving_mean.numpy(), mean, 5 + 42, least=10)
        assert_near(layer.moving_variance.numpy(), variance, 5 + 42, least=100)
    assert keep == [0.1, pytest.approx(0.1)]
    kept = [layer.keep_prob for layer in model.layers if hasattr(layer, "keep_prob")]
    assert kept == keep


def test_frozen_layers_keep_theirs():
    model = linear()
    model.get_layer("first_bn").trainable = False
    before = statistics(model)
    assert recompute_statistics(model, [np.ones((2, 6, 5), "float32")]) == 1
    changed = {
        path for path, old in statistics(model).items() if (old != before[path]).any()
    }
    assert changed == {"second_bn/moving_mean", "second_bn/moving_variance"}


def test_what_is_called_as_in_inference_keeps_its_own(model):
    still = resize.at_resolution(model, 32, as_in_inference=("stem", "stage_2"))
    before = statistics(model)
    (images,) = batches(1)
    some = recompute_statistics(still, [images])
    after = statistics(model)
    part_of = parts.part_of_variable(model)
    kept = {part_of[path] for path in before if (before[path] == after[path]).all()}
    assert kept == {"stem", "stage_2"}
    assert some < recompute_statistics(model, [images])
