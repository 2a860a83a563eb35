import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from models.errors import ModelError
from models.layers import (
    Dropout,
    Normalize,
    SplitGradientConv2D,
    StochasticDepth,
    has_split_gradient,
)
from models.space_to_depth import BatchToSpace
from tests.models.rounding import assert_near


def array(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def normal(mean=0.0, std=1.0, shape=(8, 6, 6, 5)):
    values = np.random.default_rng(1).normal(mean, std, size=shape)
    return values.astype(np.float32)


# Normalize


def test_normalize_white_black_and_mean():
    pixels = np.array([[0, 0, 0], [255, 255, 255], [123.675, 116.28, 103.53]])
    expected = [
        [-2.1179039, -2.0357143, -1.8044444],
        [2.2489083, 2.4285715, 2.64],
        [0, 0, 0],
    ]
    assert_near(array(Normalize()(pixels)), np.array(expected), terms=2)


def test_normalize_by_other_colours():
    pixels = np.array([[0, 127, 255, 100, 127, 255]])  # twice red, green and blue
    layer = Normalize((127.0, 127.0, 100.0), [128.0, 2.0, 5.0])
    expected = np.array([[-127 / 128, 0, 31, -27 / 128, 0, 31]])
    assert_near(array(layer(pixels)), expected, terms=2)


def test_a_normalize_from_before_it_had_other_colours():
    config = keras.saving.serialize_keras_object(Normalize(name="a"))
    del config["config"]["mean_rgb"], config["config"]["std_rgb"]
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == Normalize(name="a").get_config()


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_normalize_rounds_only_its_result(dtype):
    # Rounded to bfloat16 first, these would be 200 and 124.
    pixels = np.full((1, 2, 2, 3), 200.4, np.float32)
    pixels[0, 0] = 123.675
    outputs = Normalize(dtype=dtype)(pixels)
    assert outputs.dtype == "bfloat16"
    exact = ops.cast(Normalize(dtype="float32")(pixels), "bfloat16")
    np.testing.assert_array_equal(array(outputs), array(exact))


# StochasticDepth and Dropout

RANDOM_LAYERS = [(StochasticDepth, 0.8), (Dropout, 0.2)]


@pytest.mark.parametrize(("layer", "value"), RANDOM_LAYERS)
def test_random_layers_keep_the_mean(layer, value):
    x = np.ones((4000, 2, 2, 1), np.float32)
    outputs = array(layer(value)(x, training=True))
    assert set(np.unique(outputs)) == {0.0, np.float32(1 / 0.8)}
    # Four standard deviations of the mean of 4000 draws.
    assert abs((outputs > 0).mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 4000)


def test_stochastic_depth_drops_whole_samples():
    outputs = array(StochasticDepth(0.5)(np.ones((64, 3, 3, 2)), training=True))
    assert (outputs == outputs[:, :1, :1, :1]).all()
    assert 0 < outputs.mean() < 2


def test_stochastic_depth_drops_all_parts_of_an_image():
    """Behind SpaceToBatch: part is the slow index, image the fast one."""
    layer = StochasticDepth(0.5, parts=4)
    outputs = array(layer(np.ones((4 * 16, 3, 3, 2)), training=True))
    survives = outputs[:, 0, 0, 0].reshape(4, 16) > 0
    assert (survives == survives[0]).all()
    assert 0 < survives[0].sum() < 16
    image = array(BatchToSpace(2)(outputs))
    assert (image == image[:, :1, :1, :1]).all()


def test_dropout_drops_single_elements():
    outputs = array(Dropout(0.5)(np.ones((64, 10)), training=True))
    assert len(np.unique(outputs, axis=0)) == 64


def test_survival_is_not_rounded_in_bfloat16():
    # A draw in bfloat16 would drop 1 / 64, four times more than asked for.
    x = ops.ones((100_000, 1), dtype="bfloat16")
    layer = StochasticDepth(1 - 1 / 256, dtype="bfloat16")
    outputs = layer(x, training=True)
    assert outputs.dtype == "bfloat16"
    assert (array(outputs) == 0).mean() == pytest.approx(1 / 256, rel=0.2)


@pytest.mark.parametrize(("layer", "value"), RANDOM_LAYERS)
def test_random_layers_are_deterministic(layer, value):
    x = np.ones((256, 4), np.float32)
    first, again = layer(value, seed=5), layer(value, seed=5)
    masks = [array(first(x, training=True)) for _ in range(2)]
    assert (masks[0] != masks[1]).any()
    np.testing.assert_array_equal(masks[0], array(again(x, training=True)))
    assert (masks[0] != array(layer(value, seed=6)(x, training=True))).any()


@pytest.mark.parametrize(("layer", "value"), RANDOM_LAYERS)
def test_random_layers_draw_from_the_generator_passed_in(layer, value):
    x = np.ones((256, 4), np.float32)

    def make(seed):
        return keras.random.SeedGenerator(seed - 4)

    made = layer(value, seed=9, make_seed_generator=make)
    expected = array(layer(value, seed=5)(x, training=True))
    np.testing.assert_array_equal(array(made(x, training=True)), expected)
    assert array(made.seed_generator.state).tolist() == [5, 1]


@pytest.mark.parametrize(
    ("layer", "training"),
    [
        (StochasticDepth(0.5), False),
        (StochasticDepth(1.0), True),
        (Dropout(0.5), False),
        (Dropout(0.0), True),
    ],
)
def test_random_layers_are_the_identity(layer, training):
    x = normal()
    np.testing.assert_array_equal(array(layer(x, training=training)), x)


@pytest.mark.parametrize("value", [0.0, 1.5, -1.0, float("nan")])
def test_survival_prob_out_of_range(value):
    with pytest.raises(ModelError, match=rf"survival_prob must be in .*not {value}"):
        StochasticDepth(value)


@pytest.mark.parametrize("value", [1.0, -0.5, float("nan")])
def test_dropout_rate_out_of_range(value):
    with pytest.raises(ModelError, match=rf"rate must be in .*not {value}"):
        Dropout(value)


@pytest.mark.parametrize(
    "layer",
    [
        Normalize(name="a", dtype="mixed_bfloat16"),
        Normalize((127, 126, 125), (1, 2, 3)),
        StochasticDepth(0.7, parts=4, seed=3),
        Dropout(0.3, seed=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


# SplitGradientConv2D


def gradients(layer, inputs, dtype="float32"):
    """Outputs, and the gradients of inputs and kernel for a random one of these."""
    x = tf.constant(inputs, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
    dy = np.random.default_rng(2).normal(size=outputs.shape)
    kernel = layer.kernel.value
    found = tape.gradient(outputs, [x, kernel], [tf.constant(dy, dtype)])
    return [array(one) for one in (outputs, *found)]


def both(size, kernel, stride, channels=6, filters=144, **kwargs):
    """Our layer and Keras', with the same weights, for inputs of a size."""
    made = []
    for kind in (SplitGradientConv2D, keras.layers.Conv2D):
        arguments = {"padding": "same", "use_bias": False, "strides": stride} | kwargs
        layer = kind(filters, kernel, **arguments)
        layer.build((None, size, size, channels))
        made.append(layer)
    made[0].set_weights(made[1].get_weights())
    return made


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 1, 8), (3, 1, 7), (5, 2, 8), (3, 2, 8)]
)
def test_a_split_gradient_is_the_same_sum(kernel, stride, size, monkeypatch):
    ours, theirs = both(size, kernel, stride)
    inputs = normal(shape=(2, size, size, 6))
    split = []
    monkeypatch.setattr(
        SplitGradientConv2D,
        "_input_gradient",
        lambda self, *a: split.append(1) or input_gradient(self, *a),
    )
    found, expected = gradients(ours, inputs), gradients(theirs, inputs)
    assert split
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[2], expected[2])
    assert_near(found[1], expected[1], terms=kernel**2 * 144)


input_gradient = SplitGradientConv2D._input_gradient


def test_a_split_gradient_of_bfloat16_rounds_its_parts():
    """Each of k parts and their sum is rounded by up to 2^-9 of its size.

    Beside that both err as TensorFlow's kernels do, which add in bfloat16 on some
    processors, and in float32 on others.
    """
    ours, theirs = both(8, 3, 1, dtype="mixed_bfloat16")
    inputs = array(ops.cast(normal(shape=(2, 8, 8, 6)), "bfloat16"))
    rounded = [layer(inputs) for layer in (ours, theirs)]
    assert {one.dtype for one in rounded} == {tf.bfloat16}
    kernel = array(ops.cast(theirs.kernel, "bfloat16"))
    exact = both(8, 3, 1)[1]
    exact.set_weights([kernel])
    dy = array(ops.cast(normal(shape=(2, 8, 8, 144)), "bfloat16"))

    def input_gradient(layer, dtype):
        x = tf.constant(inputs, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
        return array(tape.gradient(outputs, x, [tf.constant(dy, dtype)]))

    expected = input_gradient(exact, "float32")
    scale = np.abs(expected).max()
    error, of_kernels = (
        np.abs(input_gradient(layer, "bfloat16") - expected).max()
        for layer in (ours, theirs)
    )
    assert error < 4 * 2.0**-9 * scale + 2 * of_kernels
    assert of_kernels < math.sqrt(9 * 144) * 2.0**-9 * scale  # of so many terms


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"channels": 64, "filters": 96}, 8),  # no narrower than a matrix unit's half
        ({"padding": "valid"}, 8),
        ({"stride": 2}, 7),  # of which sizes of dy do not tell
    ],
)
def test_where_nothing_is_split(changes, size, monkeypatch):
    monkeypatch.setattr(SplitGradientConv2D, "_input_gradient", None)
    arguments = {"kernel": 3, "stride": 1} | changes
    ours, theirs = both(size, **arguments)
    inputs = normal(shape=(2, size, size, arguments.get("channels", 6)))
    for found, expected in zip(
        gradients(ours, inputs), gradients(theirs, inputs), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_which_gradients_take_fewer_passes_when_split():
    """Those of X-B0's fused blocks but for the first, of 64 channels."""
    assert not has_split_gradient(3, 1, 64, 96)  # 9 passes, split 6 and 6
    assert has_split_gradient(3, 1, 24, 144)  # 18, split 6 and 3
    assert has_split_gradient(5, 2, 24, 144)  # 50, split 10 and 10
    assert has_split_gradient(5, 1, 40, 240)  # 50, split 20 and 10


def test_a_bias_is_added():
    ours, theirs = both(8, 3, 1, use_bias=True, bias_initializer="ones")
    inputs = normal(shape=(2, 8, 8, 6))
    found, expected = array(ours(inputs)), array(theirs(inputs))
    assert_near(found, expected, terms=3 * 3 * 6 + 1)
