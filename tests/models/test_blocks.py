import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from models import blocks, scaling
from models.blocks import FusedMBConv, MBConv, SqueezeExcite
from tests.models.rounding import assert_near, atol, terms

MBCONV = scaling.BlockSpec(
    kernel_size=3,
    strides=1,
    expand_ratio=6,
    input_filters=8,
    expanded_filters=48,
    output_filters=8,
    se_filters=2,
    activation="relu",
    fused=False,
)
SPECS = {
    "skip": MBCONV,
    "stride": dataclasses.replace(MBCONV, strides=2),
    "wider": dataclasses.replace(MBCONV, output_filters=16),
    "no expansion": dataclasses.replace(MBCONV, expand_ratio=1, expanded_filters=8),
    "no squeeze-and-excite": dataclasses.replace(MBCONV, se_filters=0),
    "space to depth": dataclasses.replace(
        MBCONV,
        kernel_size=2,
        expand_ratio=1,
        expanded_filters=32,
        output_filters=16,
        space_to_depth="conv",
    ),
    "reshuffle": dataclasses.replace(
        MBCONV,
        expand_ratio=1,
        expanded_filters=32,
        space_to_depth="reshuffle",
    ),
    "reshuffle, expanded": dataclasses.replace(
        MBCONV, expand_ratio=2, expanded_filters=64, space_to_depth="reshuffle"
    ),
    "fused space to depth": dataclasses.replace(
        MBCONV, fused=True, expanded_filters=192, space_to_depth="conv"
    ),
    "no skip": dataclasses.replace(MBCONV, skip=False),
    "no expansion but other channels": dataclasses.replace(MBCONV, expand_ratio=1),
    "symmetric": dataclasses.replace(MBCONV, strides=2, padding="symmetric"),
    "fused, symmetric": dataclasses.replace(
        MBCONV, fused=True, kernel_size=5, strides=2, padding="symmetric"
    ),
    "fused": dataclasses.replace(MBCONV, fused=True, activation="swish"),
    "fused, stride": dataclasses.replace(MBCONV, fused=True, strides=2),
}
ALONE = dataclasses.replace(
    SPECS["fused"], project=False, expand_ratio=1, expanded_filters=8, se_filters=0
)
SPECS |= {
    "no projection": ALONE,
    "no projection, squeeze-and-excite": dataclasses.replace(ALONE, se_filters=2),
    "no projection, stride, wider": dataclasses.replace(
        ALONE, strides=2, expanded_filters=16, output_filters=16
    ),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def make(spec, **kwargs):
    return (FusedMBConv if spec.fused else MBConv)(spec, name="block", **kwargs)


def inputs(batch=4):
    shape = (batch, 7, 7, 8)
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def kernel_names(block):
    return [v.path.split("/", 1)[1] for v in block.weights if "kernel" in v.path]


@each_spec
def test_declared_shape_is_the_computed_one(spec):
    block = make(spec)
    outputs, expansion = block(inputs()), block.expand(inputs())
    assert outputs.shape == block.compute_output_shape((4, 7, 7, 8))
    assert outputs.shape[-1] == spec.output_filters
    assert expansion.shape == (*outputs.shape[:3], spec.expanded_filters)


@each_spec
def test_skip(spec):
    block = make(spec)
    x = inputs()
    outputs = ops.convert_to_numpy(block(x))
    branch = blocks.run_chain(block._projection, block.expand(x))
    difference = outputs - ops.convert_to_numpy(branch)
    if spec.has_skip:  # added and taken away
        np.testing.assert_allclose(difference, x, rtol=0, atol=atol(2, outputs))
    else:
        assert not difference.any()


def test_parts_of_an_mbconv():
    block = make(MBCONV)
    block.build((None, 7, 7, 8))
    assert kernel_names(block) == [
        "expand/kernel",
        "depthwise/kernel",
        "squeeze_excite/reduce/kernel",
        "squeeze_excite/expand/kernel",
        "project/kernel",
    ]


def test_parts_of_the_block_with_space_to_depth():
    block = make(SPECS["space to depth"])
    block.build((None, 7, 7, 8))
    assert kernel_names(block)[:2] == ["fold/kernel", "depthwise/kernel"]
    assert block.weights[0].shape == (2, 2, 8, 32)


def test_a_block_without_a_projection_by_hand():
    """Convolution, batch norm, activation, then the sum."""
    block = make(ALONE)
    x = inputs()
    outputs = ops.convert_to_numpy(block(x))
    assert [v.path for v in block.weights] == [
        "block/expand/kernel",
        *(f"block/expand_bn/{v}" for v in ("gamma", "beta")),
        *(f"block/expand_bn/moving_{v}" for v in ("mean", "variance")),
    ]
    kernel = block.weights[0].numpy().astype(np.float64)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    branch = sum(
        padded[:, i : i + 7, j : j + 7] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    ) / np.sqrt(1 + 1e-3)
    assert_near(outputs, x + branch / (1 + np.exp(-branch)), terms(block))


def test_a_config_from_before_there_was_a_block_without_projection():
    block = make(SPECS["fused"])
    config = keras.saving.serialize_keras_object(block)
    del config["config"]["spec"]["project"]
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.spec == SPECS["fused"]


def test_parts_of_a_fused_mbconv():
    block = make(SPECS["fused"])
    block.build((None, 7, 7, 8))
    assert [name for name in kernel_names(block) if "squeeze" not in name] == [
        "expand/kernel",
        "project/kernel",
    ]
    assert block.weights[0].shape == (3, 3, 8, 48)


@pytest.mark.parametrize(
    "name",
    [
        *("skip", "stride", "fused", "fused space to depth"),
        "no projection, squeeze-and-excite",
    ],
)
def test_training_step_is_that_of_the_layers_one_by_one(name, monkeypatch):
    found = []
    for joint in (True, False):
        asked = []
        monkeypatch.setattr(
            blocks, "has_gradient", lambda a, j=joint, asked=asked: asked.append(a) or j
        )
        block = make(SPECS[name], seed=3)
        x = tf.constant(inputs())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x, training=True)
            loss = tf.reduce_sum(y * tf.sin(tf.range(1.0, y.shape[-1] + 1)))
        sources = [x, *(v.value for v in block.trainable_weights)]
        found.append([y, *tape.gradient(loss, sources), *block.get_weights()])
        assert asked == [keras.activations.get(SPECS[name].activation)]
    # There and back, and sums over four times 7x7 pixels.
    for one, other in zip(*found, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert_near(one, other, 2 * terms(block) + 4 * 7 * 7, least=1)  # as sines are


def test_an_activation_without_a_gradient_of_ours():
    block = make(dataclasses.replace(MBCONV, activation="gelu"))
    assert np.isfinite(block(inputs(), training=True)).all()
    assert not blocks.has_gradient(keras.activations.gelu)


def test_training_reaches_the_parts():
    block = make(MBCONV)
    block(inputs(), training=False)
    assert not block.weights[3].numpy().any()
    block(inputs(), training=True)
    assert block.weights[3].numpy().all()


def test_stochastic_depth_leaves_the_inputs():
    block = make(MBCONV, survival_prob=0.5)
    x = inputs(32)
    outputs = ops.convert_to_numpy(block(x, training=True))
    dropped = (outputs == x).all(axis=(1, 2, 3))
    assert 0 < dropped.sum() < 32


def test_stochastic_depth_only_on_a_skip():
    assert make(MBCONV, survival_prob=0.5)._stochastic_depth is not None
    assert make(MBCONV, survival_prob=1.0)._stochastic_depth is None
    # Without a skip a dropped sample would be lost.
    assert make(SPECS["wider"], survival_prob=0.5)._stochastic_depth is None


def test_squeeze_excite_by_hand():
    layer = SqueezeExcite(4, 2, activation="relu")
    x = inputs()[..., :4]
    outputs = ops.convert_to_numpy(layer(x))
    kernel1, bias1, kernel2, bias2 = layer.get_weights()
    x = x.astype(np.float64)
    reduced = np.maximum(x.mean(axis=(1, 2)) @ kernel1[0, 0] + bias1, 0)
    factors = 1 / (1 + np.exp(-(reduced @ kernel2[0, 0] + bias2)))
    assert_near(outputs, x * factors[:, None, None], terms(layer) + 7 * 7)


@each_spec
def test_config_round_trip(spec):
    block = make(spec, survival_prob=0.75, batch_norm_momentum=0.9, seed=3)
    config = keras.saving.serialize_keras_object(block)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(block)
    assert copy.spec == spec
    assert copy.get_config() == block.get_config()
