import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from models.batch_norm import BatchNormalization
from models.errors import ModelError
from tests.models import rounding

EPSILON = 1e-3


def array(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def normal(mean=0.0, std=1.0, shape=(8, 6, 6, 5), seed=1):
    values = np.random.default_rng(seed).normal(mean, std, size=shape)
    return values.astype(np.float32)


def upstream(x):
    """A gradient from above, of other means than zero."""
    return normal(0.3, 1.0, x.shape, seed=2)


def keras_layer():
    return keras.layers.BatchNormalization(epsilon=EPSILON)


def built(layer, x, moving_mean=0.1):
    """The layer with weights that differ by channel."""
    layer.build(x.shape)
    ends = np.array([[0.5, -1, moving_mean, 1.5], [2, 1, moving_mean, 1.5]])
    layer.set_weights(list(np.linspace(*ends, num=layer.gamma.shape[0], axis=1)))
    return layer


def gradients(layer, x, dy, training=True):
    """Outputs, dx, dgamma, dbeta."""
    x, weights = tf.convert_to_tensor(x), [layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
    return [y, *tape.gradient(y, [x, *weights], tf.cast(dy, y.dtype))]


def reference(layer, x, dy):
    """The same in float64, from the textbook."""
    axes = tuple(range(x.ndim - 1))
    x, dy, gamma, beta = (
        np.asarray(a, np.float64) for a in (x, dy, *layer.get_weights()[:2])
    )
    inverse = 1 / np.sqrt(x.var(axes) + EPSILON)
    normalized = (x - x.mean(axes)) * inverse
    centered = dy - dy.mean(axes) - normalized * (dy * normalized).mean(axes)
    dx = gamma * inverse * centered
    dgamma, dbeta = (dy * normalized).sum(axes), dy.sum(axes)
    return [normalized * gamma + beta, dx, dgamma, dbeta]


def assert_close(actual, expected, count=8 * 6 * 6, rtol=0.0, atol=0.0):
    """Compare what are, or hang on, sums over so many values of a channel."""
    for a, b in zip(actual, expected, strict=True):
        allowed = atol or rounding.atol(count, array(b))
        np.testing.assert_allclose(array(a), array(b), atol=allowed, rtol=rtol)


# Values and gradients


@pytest.mark.parametrize("training", [True, False])
def test_agrees_with_keras(training):
    x = normal(0.7, 2.0)
    ours, theirs = built(BatchNormalization(), x), built(keras_layer(), x)
    assert_close(
        gradients(ours, x, upstream(x), training),
        gradients(theirs, x, upstream(x), training),
    )
    assert_close(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize(
    "shape", [(8, 6, 6, 5), (7, 3), (3, 5, 2), (2, 3, 5, 1, 4), (64, 1)]
)
def test_agrees_with_the_textbook(shape):
    x = normal(0.7, 2.0, shape)
    layer = built(BatchNormalization(), x)
    expected = reference(layer, x, upstream(x))
    count = x.size // x.shape[-1]
    assert_close(gradients(layer, x, upstream(x)), expected, count)


def test_moves_by_the_biased_variance():
    x = normal(shape=(4, 1, 1, 3))
    layer = BatchNormalization(momentum=0.9)
    layer(x, training=True)
    axes = (0, 1, 2)
    allowed = rounding.atol(4, 0.1 * x)
    assert_close([layer.moving_mean], [0.1 * x.mean(axes)], atol=allowed)
    assert_close([layer.moving_variance], [0.9 + 0.1 * x.var(axes, ddof=0)], 4)


@pytest.mark.parametrize(
    ("mean", "moving_mean", "tolerance"),
    [
        # 4 times the worst of four arithmetics, or more: oneDNN, without, AVX-512, one
        # thread. What is lost grows with the square of the distance, and with how a
        # library orders its sums.
        (100.0, 100.0, 2e-5),
        (100.0, 95.0, 1.8e-3),
        (1000.0, 1000.0, 5e-5),
        # At the first steps only: sums of 10^4 leave few digits for a variance of 1.
        (100.0, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_far_from_zero(mean, moving_mean, tolerance, jit_compile):
    x = normal(mean, 1.0, shape=(8, 32, 32, 5))
    layer = built(BatchNormalization(), x, moving_mean)
    run = tf.function(
        lambda x, dy: gradients(layer, x, dy), jit_compile=jit_compile, autograph=False
    )
    y, dx, *sums = run(x, upstream(x))
    *expected, dgamma, dbeta = reference(layer, x, upstream(x))
    assert_close([y, dx], expected, atol=tolerance)
    count = x.size // 5
    expected = np.divide([dgamma, dbeta], count)
    assert_close(np.divide(sums, count), expected, atol=tolerance)


@pytest.mark.parametrize(("moving_mean", "tolerance"), [(1000.0, 3.2e-2), (0.0, 4.0)])
def test_of_constants_is_beta(moving_mean, tolerance):
    # 4 times the worst of four arithmetics: to add a constant rounds one way each time.
    # Seen from 0, E[x^2] - E[x]^2 of half of these is below zero by far more than
    # epsilon, and what the mean is off by is divided by the root of epsilon.
    x = np.broadcast_to(np.linspace(990, 1010, 64), (8, 32, 32, 64))
    x = x.astype(np.float32)
    layer = built(BatchNormalization(), x, moving_mean)
    y, dx, *_ = gradients(layer, x, upstream(x))
    gamma, beta, *moved = layer.get_weights()
    np.testing.assert_allclose((array(y) - beta) / gamma, 0, atol=tolerance)
    assert np.isfinite(array(dx)).all()
    assert np.isfinite(moved).all()


def test_computes_in_float32_over_bfloat16():
    x = ops.cast(normal(3.0, 1.0), "bfloat16")
    dy = ops.cast(upstream(x), "bfloat16")
    layer = built(BatchNormalization(dtype="mixed_bfloat16"), x)
    expected = reference(layer, array(x), array(dy))
    y, dx, dgamma, dbeta = gradients(layer, x, dy)
    assert y.dtype == dx.dtype == "bfloat16"
    # One rounding, of the result.
    assert_close([y, dx], expected[:2], rtol=2**-8)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    # dgamma is a difference of such sums, from the moving mean.
    products = array(dy) * (array(x) - 0.1)
    size = products.size // products.shape[-1] * np.abs(products).mean()
    assert_close([dgamma, dbeta], expected[2:], atol=rounding.atol(8 * 6 * 6, size))
    moved = 0.99 * 0.1 + 0.01 * array(x).mean((0, 1, 2))
    assert_close([layer.moving_mean], [moved])


# With an activation and its mean over the pixels

ACTIVATIONS = [keras.activations.relu, keras.activations.silu]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def squeeze_excite(y, mean):
    """A product as squeeze-and-excite's: its factors depend on all pixels."""
    mixed = ops.matmul(mean, normal(shape=(y.shape[-1],) * 2, seed=3))
    return y * ops.cast(ops.sigmoid(mixed), y.dtype)


def joint(layer, x, training, activation):
    return layer(x, training=training, activation=activation)


def separate(layer, x, training, activation):
    y = activation(layer(x, training=training))
    return y, ops.mean(y, axis=tuple(range(1, y.ndim - 1)), keepdims=True)


def gradients_behind(call, layer, x, dy, training, activation):
    """Outputs, means, dx, dgamma, dbeta."""
    x, weights = tf.convert_to_tensor(x), [layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, mean = call(layer, x, training, activation)
        z = squeeze_excite(y, mean)
    return [y, mean, *tape.gradient(z, [x, *weights], tf.cast(dy, z.dtype))]


@each_activation
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "groups", "jit_compile"),
    [
        ((8, 6, 5, 8), 1, False),
        ((8, 6, 5, 8), 4, True),
        ((3, 1, 1, 8), 2, False),
    ],
)
def test_activation_and_mean_at_once(shape, groups, training, activation, jit_compile):
    x = normal(0.7, 2.0, shape)
    found = []
    for call in (joint, separate):
        layer = built(BatchNormalization(groups=groups), x)
        run = tf.function(
            lambda x, dy, call=call, layer=layer: gradients_behind(
                call, layer, x, dy, training, activation
            ),
            jit_compile=jit_compile,
            autograph=False,
        )
        found.append([*run(x, upstream(x)), *layer.get_weights()])
    assert_close(*found)
    assert np.abs(array(found[0][2])).max() > 0.1


@each_activation
def test_activation_over_bfloat16(activation):
    x = ops.cast(normal(0.5, 1.0, (8, 16, 16, 5)), "bfloat16")
    ours, exact = (built(BatchNormalization(dtype=d), x) for d in ("bfloat16", None))
    y, mean = ours(x, training=True, activation=activation)
    assert y.dtype == mean.dtype == "bfloat16"
    expected = separate(exact, ops.cast(x, "float32"), True, activation)
    # One rounding: of the activation, not of what is normalised, too.
    assert_close([y, mean], expected, 8 * 16 * 16, rtol=2**-8)
    dx = gradients_behind(joint, ours, x, upstream(x), True, activation)[2]
    assert dx.dtype == "bfloat16"


@each_activation
def test_activation_reduces_once_forward_and_once_backward(activation):
    x, calls = normal(0.7), []

    def reduce_mean(means):
        calls.append(means)
        return means

    for call in (joint, separate):
        layer = built(BatchNormalization(reduce_mean=reduce_mean), x)
        gradients_behind(call, layer, x, upstream(x), True, activation)
    assert_close(calls[:2], calls[2:])


def test_activation_of_a_frozen_layer():
    x, found = normal(0.7), []
    for call in (joint, separate):
        layer = built(BatchNormalization(), x)
        layer.trainable = False
        found.append(
            gradients_behind(call, layer, x, upstream(x), True, ACTIVATIONS[1])
        )
    assert_close(*found)


# The layer's states


def test_variables():
    layer = BatchNormalization(groups=2)
    layer.build((None, 4, 4, 6))
    assert [(v.name, v.shape, v.trainable, v.aggregation) for v in layer.weights] == [
        ("gamma", (3,), True, "none"),
        ("beta", (3,), True, "none"),
        ("moving_mean", (3,), False, "mean"),
        ("moving_variance", (3,), False, "mean"),
    ]


def test_frozen_does_not_move():
    x = normal(5.0)
    layer = built(BatchNormalization(), x)
    layer.trainable = False
    before = layer.get_weights()
    y, dx, dgamma, dbeta = gradients(layer, x, upstream(x))
    gamma, beta, mean, variance = before
    scale = gamma / np.sqrt(variance + EPSILON)
    assert_close([y, dx], [(x - mean) * scale + beta, upstream(x) * scale])
    dy = upstream(x).sum((0, 1, 2))
    assert_close([dbeta], [dy])
    dscale = (upstream(x) * (x - mean)).sum((0, 1, 2))
    assert_close([dgamma], [dscale * scale / gamma])
    np.testing.assert_array_equal(layer.get_weights(), before)


def test_no_gradient_for_the_moving_statistics():
    x = normal(1.0)
    layer = built(BatchNormalization(), x)
    moving = [layer.moving_mean.value, layer.moving_variance.value]
    with tf.GradientTape() as tape:
        tape.watch(moving)
        y = layer(x, training=True)
    to_mean, to_variance = tape.gradient(y, moving, upstream(x))
    assert not array(to_mean).any()
    assert to_variance is None


def test_in_a_model_of_any_batch():
    layer = BatchNormalization(groups=2)
    inputs = keras.Input((None, None, 6))
    model = keras.Model(inputs, layer(inputs))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 6])] * 2)
    def run(x, dy):
        with tf.GradientTape() as tape:
            y = model(x, training=True)
        return [y, *tape.gradient(y, [layer.gamma.value, layer.beta.value], dy)]

    for shape in [(3, 4, 4, 6), (5, 2, 3, 6)]:
        x = normal(0.5, 2.0, shape)
        y, dgamma, dbeta = run(x, upstream(x))
        copies, dy = x.reshape(-1, 3), upstream(x).reshape(-1, 3)
        other = BatchNormalization()
        other.build(copies.shape)
        expected, _, *sums = reference(other, copies, dy)
        assert_close([y, dgamma, dbeta], [expected.reshape(shape), *sums])


# Groups of channels and of replicas


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(8, 6, 6, 12), (9, 12)])
def test_groups_are_as_if_pixels(shape, training):
    x = normal(0.7, 2.0, shape) + np.linspace(-2, 2, 12, dtype=np.float32)
    ours = built(BatchNormalization(groups=4), x)
    pixels = x.reshape(*shape[:-1], 4, 3)
    other = built(keras_layer(), pixels)
    y, dx, *sums = gradients(other, pixels, upstream(pixels), training)
    assert_close(
        gradients(ours, x, upstream(pixels).reshape(shape), training),
        [tf.reshape(y, shape), tf.reshape(dx, shape), *sums],
        count=4 * 8 * 6 * 6,
    )
    assert_close(ours.get_weights(), other.get_weights())


def test_reduces_once_forward_and_once_backward():
    calls = []

    def reduce_mean(means):
        calls.append(array(means))
        return means

    x = normal(0.7)
    layer = built(BatchNormalization(reduce_mean=reduce_mean), x, moving_mean=0.0)
    y, *_ = gradients(layer, x, upstream(x))
    forward, backward = calls
    axes = (0, 1, 2)
    assert_close(forward, [x.mean(axes), np.square(x).mean(axes)])
    gamma, beta, *_ = layer.get_weights()
    normalized = (array(y) - beta) / gamma
    dy = upstream(x)
    assert_close(backward, [dy.mean(axes), (dy * normalized).mean(axes)])


def test_normalizes_by_what_the_reducer_returns():
    x = normal(0.7)
    more = np.array([[0.0], [0.5]], np.float32)  # a variance of 0.5 more
    layer = built(BatchNormalization(reduce_mean=lambda means: means + more), x)
    outputs = layer(x, training=True)
    axes = (0, 1, 2)
    gamma, beta, *_ = layer.get_weights()
    inverse = 1 / np.sqrt(x.var(axes) + 0.5 + EPSILON)
    expected = (x - x.mean(axes)) * inverse * gamma + beta
    assert_close([outputs], [expected])


def test_inference_does_not_reduce():
    def refuse(means):
        raise AssertionError(means)

    layer, x = BatchNormalization(reduce_mean=refuse), normal(5.0)
    assert_close([layer(x)], [x / np.sqrt(1 + EPSILON)])


# Errors and configuration


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, "momentum must be in .* not 1.0"),
        ({"momentum": -0.1}, "momentum must be in .* not -0.1"),
        ({"momentum": float("nan")}, "momentum must be in .* not nan"),
        ({"epsilon": 0}, "epsilon must be above 0, not 0"),
        ({"groups": 0}, "groups must be 1 or more, not 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ModelError, match=message):
        BatchNormalization(**arguments)


def test_channels_do_not_divide():
    layer = BatchNormalization(groups=4, name="bn")
    with pytest.raises(ModelError, match="bn: 6 channels do not divide into 4 groups"):
        layer.build((None, 2, 2, 6))


def test_config_round_trip():
    layer = BatchNormalization(
        momentum=0.9, epsilon=0.1, groups=4, reduce_mean=ops.abs, dtype="mixed_bfloat16"
    )
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == "efficientnet_x>BatchNormalization"
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is BatchNormalization
    assert copy.get_config() == layer.get_config()
    assert (copy.momentum, copy.epsilon, copy.groups) == (0.9, 0.1, 4)
    assert "reduce_mean" not in copy.get_config()


def test_compute_output_shape():
    assert BatchNormalization().compute_output_shape((None, 2, 3)) == (None, 2, 3)


# JAX

IN_JAX = """
import sys
import jax
import numpy as np
from models.batch_norm import BatchNormalization

given = np.load(sys.argv[1])
x, dy = given["x"], given["dy"]
layer = BatchNormalization(groups=2)
layer.build(x.shape)
layer.set_weights([given[name] for name in ("gamma", "beta", "mean", "variance")])
gamma, beta = (v.value for v in layer.trainable_variables)
moving = [v.value for v in layer.non_trainable_variables]

def weighted(x, gamma, beta):
    y, moved = layer.stateless_call([gamma, beta], moving, x, training=True)
    return (y * dy).sum(), (y, moved)

def moved_sum(x):
    return sum(m.sum() for m in weighted(x, gamma, beta)[1][1])

differentiate = jax.jit(jax.grad(weighted, argnums=(0, 1, 2), has_aux=True))
(dx, dgamma, dbeta), (y, moved) = differentiate(x, gamma, beta)
assert not jax.grad(moved_sum)(x).any()
mean, variance = moved
made = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
np.savez(sys.argv[2], mean=mean, variance=variance, **made)
"""


@pytest.mark.slow
def test_agrees_with_itself_in_jax(tmp_path):
    x = normal(0.7, 2.0, (8, 3, 5, 6))
    layer = built(BatchNormalization(groups=2), x)
    names = ("gamma", "beta", "mean", "variance")
    weights = dict(zip(names, layer.get_weights(), strict=True))
    np.savez(tmp_path / "given.npz", x=x, dy=upstream(x), **weights)
    subprocess.run(
        [sys.executable, "-c", IN_JAX, tmp_path / "given.npz", tmp_path / "made.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    made = np.load(tmp_path / "made.npz")
    y, dx, dgamma, dbeta = gradients(layer, x, upstream(x))
    assert_close([made["y"], made["dx"]], [y, dx])
    assert_close([made["dgamma"], made["dbeta"]], [dgamma, dbeta])
    assert_close([made["mean"], made["variance"]], layer.get_weights()[2:])
