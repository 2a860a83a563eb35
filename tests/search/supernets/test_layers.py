"""Smaller kernels in larger ones, parts of images, batch norm by the batch."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.batch_norm import BatchNormalization
from models.blocks import LayerMaker, run_chain
from models.space_to_depth import SpaceToBatch
from search.supernets.layers import (
    BatchNorm,
    SupernetMaker,
    fit_channels,
    mean_of_parts,
    taps,
)
from tests.models.rounding import assert_near

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(
    "sizes", [(1, 3, 5, 7), (2, 3, 4)], ids=["odd", "halved by a section"]
)
def test_a_crop_is_the_smaller_convolution(sizes, padding):
    plain = LayerMaker(seed=0, dtype="float32", padding=padding, batch_norm={})
    make = SupernetMaker(seed=0, dtype="float32", padding=padding, batch_norm={})
    most = 3 if padding == "same" else 2  # timm's dialect has no larger strides
    for strides, size in itertools.product(range(1, most + 1), (8, 9)):
        images = RNG.normal(size=(2, size, size, 3)).astype(np.float32)
        *pads, conv = make.conv("conv", 4, max(sizes), strides=strides)
        padded = run_chain(pads, tf.constant(images))
        conv.build(padded.shape)
        kernel = conv.kernel.numpy()
        where = taps(sizes, strides, size, padding)
        for kernel_size, crop in zip(sizes, where, strict=True):
            mask = np.zeros((max(sizes), max(sizes), 1, 1), np.float32)
            mask[crop, crop] = 1
            alone = plain.conv("conv", 4, kernel_size, strides=strides)
            expected = run_chain(alone[:-1], tf.constant(images))
            alone[-1].build(expected.shape)
            alone[-1].kernel.assign(kernel[crop, crop])
            expected = alone[-1](expected).numpy()
            # Zeros that are added are exact, but may be added in another order.
            assert_near(conv(padded, mask).numpy(), expected, 3 * kernel_size**2)


def test_no_crop_is_the_plain_layer():
    make = SupernetMaker(seed=0, dtype="float32", batch_norm={})
    images = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    (layer,) = make.depthwise("depthwise", 3, 2)
    outputs = layer(images)
    plain = keras.layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)
    plain.build(images.shape)
    plain.kernel.assign(layer.kernel)
    np.testing.assert_array_equal(outputs, plain(images))


def test_means_of_parts_are_those_of_the_samples():
    images = RNG.normal(size=(2, 6, 4, 3)).astype(np.float32)
    found = mean_of_parts(tf.constant(images), 2).numpy()
    samples = SpaceToBatch(2)(images).numpy().mean(axis=(1, 2))
    for i, j, b in itertools.product(range(2), range(2), range(2)):
        expected = samples[(i * 2 + j) * 2 + b]
        np.testing.assert_allclose(found[b, i, j], expected, rtol=0, atol=1e-6)


def test_channels_fit():
    x = tf.ones((1, 2, 2, 3))
    assert fit_channels(x, 5).numpy()[0, 0, 0].tolist() == [1, 1, 1, 0, 0]
    assert fit_channels(x, 2).shape == (1, 2, 2, 2)
    assert fit_channels(x, 3) is x


def test_batch_norm_is_that_of_training_without_moving_statistics():
    x = RNG.normal(3, 2, (4, 5, 5, 6)).astype(np.float32)
    ours, plain = BatchNorm(), BatchNormalization()
    for layer in (ours, plain):
        layer.build(x.shape)
        layer.gamma.assign(np.arange(1, 7))
        layer.beta.assign(np.arange(6))
    assert [v.name for v in ours.weights] == ["gamma", "beta"]
    expected = plain(x, training=True).numpy()
    np.testing.assert_array_equal(ours(x, training=True), expected)
    assert_near(ours(x, training=False).numpy(), expected, x[..., 0].size)


def test_replicas_share_statistics_in_training_alone():
    calls = []

    def reduce_mean(means):
        calls.append(means.shape)
        return means

    layer = BatchNorm(reduce_mean=reduce_mean)
    x = np.ones((2, 3, 3, 4), np.float32)
    layer(x, training=False)
    assert calls == []
    layer(x, training=True)
    assert calls == [(2, 4)]
