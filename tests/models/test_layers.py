import keras
import numpy as np
import pytest
from keras import ops

from models.layers import BatchNormalization, Dropout, Normalize, StochasticDepth
from models.variants import ModelError


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
    np.testing.assert_allclose(array(Normalize()(pixels)), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_normalize_rounds_only_its_result(dtype):
    # Rounded to bfloat16 first, these would be 200 and 124.
    pixels = np.full((1, 2, 2, 3), 200.4, np.float32)
    pixels[0, 0] = 123.675
    outputs = Normalize(dtype=dtype)(pixels)
    assert outputs.dtype == "bfloat16"
    exact = ops.cast(Normalize(dtype="float32")(pixels), "bfloat16")
    np.testing.assert_array_equal(array(outputs), array(exact))


# BatchNormalization


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_agrees_with_keras(training):
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization(epsilon=1e-3)
    x = normal(0.7, 2.0)
    weights = np.array([[0.5, 1, 2, 3, 4], [1, 0, -1, 2, 0], [0.1] * 5, [1.5] * 5])
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(list(weights))
    np.testing.assert_allclose(
        array(ours(x, training=training)),
        array(theirs(x, training=training)),
        atol=1e-5,
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_batch_norm_moves_by_the_biased_variance():
    x = normal(shape=(4, 1, 1, 3))
    layer = BatchNormalization(momentum=0.9)
    layer(x, training=True)
    moved = 0.9 + 0.1 * x.var(axis=(0, 1, 2), ddof=0)
    np.testing.assert_allclose(array(layer.moving_variance), moved, atol=1e-6)


@pytest.mark.parametrize(
    ("moving_mean", "tolerance"),
    [
        (95.0, 2e-3),
        # At the first steps only: sums of 10^4 leave few digits for a variance of 1.
        (0.0, 0.2),
    ],
)
def test_batch_norm_far_from_zero(moving_mean, tolerance):
    x = normal(100.0, 1.0, shape=(8, 32, 32, 5))
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization(epsilon=1e-3)
    ours.build(x.shape)
    ours.moving_mean.assign([moving_mean] * 5)
    np.testing.assert_allclose(
        array(ours(x, training=True)), array(theirs(x, training=True)), atol=tolerance
    )


def test_batch_norm_of_a_constant_is_beta():
    # E[x^2] - E[x]^2 of this constant is below zero by far more than epsilon.
    x = np.full((8, 32, 32, 1), 1000.1, np.float32)
    outputs = array(BatchNormalization()(x, training=True))
    assert np.isfinite(outputs).all()
    np.testing.assert_allclose(outputs, 0, atol=0.05)


def test_batch_norm_computes_in_float32_over_bfloat16():
    x = ops.cast(normal(3.0, 1.0), "bfloat16")
    exact = array(BatchNormalization(dtype="float32")(array(x), training=True))
    layer = BatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(x, training=True)
    assert outputs.dtype == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    rounded = array(ops.cast(exact, "bfloat16"))
    # Half a step of bfloat16, where the float32 results straddle two of its values.
    np.testing.assert_allclose(array(outputs), rounded, rtol=2**-7, atol=1e-6)
    np.testing.assert_allclose(
        array(layer.moving_mean), 0.01 * array(x).mean((0, 1, 2)), rtol=1e-5
    )


def test_batch_norm_variables():
    layer = BatchNormalization()
    layer.build((None, 4, 4, 2))
    assert [(v.name, v.trainable, v.aggregation) for v in layer.weights] == [
        ("gamma", True, "none"),
        ("beta", True, "none"),
        ("moving_mean", False, "mean"),
        ("moving_variance", False, "mean"),
    ]


def test_batch_norm_frozen_does_not_move():
    layer = BatchNormalization()
    layer.trainable = False
    x = normal(5.0)
    np.testing.assert_allclose(array(layer(x, training=True)), x, rtol=1e-3)
    assert not array(layer.moving_mean).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"momentum": 1.0}, "momentum must be in"), ({"epsilon": 0}, "epsilon must be")],
)
def test_batch_norm_errors(arguments, message):
    with pytest.raises(ModelError, match=message):
        BatchNormalization(**arguments)


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
        BatchNormalization(momentum=0.9, epsilon=0.1),
        StochasticDepth(0.7, seed=3),
        Dropout(0.3, seed=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
