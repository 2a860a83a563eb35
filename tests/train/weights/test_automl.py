"""Checkpoints as google/automl's efficientnetv2 writes them, with random weights.

The names are made here by the rules of its effnetv2_model.py (names of layers by
counters in each block) and of Keras 2 in a TF1 graph: the classifier is the model's own
layer, called in a scope `head`, which is head_1 there as the head has that name. No
published checkpoint was at hand.
"""

import numpy as np
import pytest
import tensorflow as tf

import models
from models import reference_variables, scaling, weight_loading
from models.errors import ModelError
from models.variants import get_variant
from tests.models.nets import tiny_v2
from train.weights import pretrained

AVERAGE = "/ExponentialMovingAverage"
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


class Layers:
    """Names of layers in a scope, the second of a kind with _1."""

    def __init__(self, scope):
        self.scope, self.names, self.counts = scope, [], {}

    def add(self, kind, *roles):
        number = self.counts.get(kind, 0)
        self.counts[kind] = number + 1
        layer = f"{kind}_{number}" if number else kind
        self.names += [f"{self.scope}/{layer}/{role}" for role in roles]

    def conv(self):
        self.add("conv2d", "kernel")
        self.add("tpu_batch_normalization", *BATCH_NORM)


def names_of(variant, classifier="head_1/dense"):
    """The variables' names of a network of V2, in the order of the computation."""
    stem, head = Layers("stem"), Layers("head")
    stem.conv()
    head.conv()
    found = stem.names
    for i, block in enumerate(scaling.block_specs(variant)):
        layers = Layers(f"blocks_{i}")
        if block.fused:
            if block.expand_ratio != 1:
                layers.conv()
            layers.conv()
        else:
            if block.expand_ratio != 1:
                layers.conv()
            layers.add("depthwise_conv2d", "depthwise_kernel")
            layers.add("tpu_batch_normalization", *BATCH_NORM)
            se = Layers(f"blocks_{i}/se")
            se.add("conv2d", "kernel", "bias")
            se.add("conv2d", "kernel", "bias")
            layers.names += se.names
            layers.conv()
        found += layers.names
    return [*found, *head.names, f"{classifier}/kernel", f"{classifier}/bias"]


@pytest.mark.parametrize("name", ["efficientnetv2-b0", "efficientnetv2-s"])
def test_names_of_a_whole_network(name):
    variant = get_variant(name)
    ours = [v.name for v in reference_variables.variables(variant)]
    assert names_of(variant, "head/dense") == ours


@pytest.fixture(scope="module")
def pair():
    """A network with weights that no initializer makes, and one to load into."""
    found = [models.build_model(tiny_v2(), num_classes=7, seed=i) for i in (1, 2)]
    random = np.random.default_rng(3)
    for v in found[0].weights:
        low = 0.5 if "variance" in v.path else -0.5
        v.assign(random.uniform(low, 1, v.shape).astype("float32") * 0.3)
    return found


def write(prefix, model, classifier):
    """The raw weights are one more than the averages; slots are no numbers."""
    weights = weight_loading.in_reference_order(model)
    tensors = {"global_step": np.int64(1)}
    for name, v in zip(names_of(tiny_v2(), classifier), weights, strict=True):
        key, value = f"tiny_v2/{name}", v.numpy()
        tensors[key] = value + 1
        tensors[f"{key}{AVERAGE}"] = value
        if "moving" not in name:
            tensors[f"{key}/RMSProp"] = np.full_like(value, np.nan)
            tensors[f"{key}/RMSProp_1"] = np.full_like(value, np.nan)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


@pytest.mark.parametrize("classifier", ["head_1/dense", "head/dense", "dense"])
def test_logits(pair, classifier, tmp_path):
    source, model = pair
    write(tmp_path / "model.ckpt", source, classifier)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    expected = np.asarray(source(pixels))
    assert np.ptp(expected) > 1e-3  # the images have not died out on the way
    for v in model.weights:
        v.assign(np.zeros(v.shape, "float32"))
    pretrained.load(model, path=str(tmp_path / "model.ckpt"))
    np.testing.assert_array_equal(np.asarray(model(pixels)), expected)
    pretrained.load(model, path=str(tmp_path), averaged=False)
    for found, v in zip(model.weights, source.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), v.numpy() + 1)


def test_other_classes(pair, tmp_path):
    source, _ = pair
    write(tmp_path / "model.ckpt", source, "head_1/dense")
    model = models.build_model(tiny_v2(), num_classes=3)
    own = model.get_layer("classifier").kernel.numpy()
    with pytest.raises(ModelError, match="all else fits: new_head=True leaves the cla"):
        pretrained.load(model, path=str(tmp_path))
    pretrained.load(model, path=str(tmp_path), new_head=True)
    np.testing.assert_array_equal(model.get_layer("classifier").kernel.numpy(), own)
    np.testing.assert_array_equal(
        model.get_layer("head_bn").gamma.numpy(),
        source.get_layer("head_bn").gamma.numpy(),
    )
