"""Weights and pixels for timm's networks, the same with torch and without it."""

import dataclasses
import re
import zlib

import numpy as np

from models.variants import get_variant
from tests.support.golden import read_json, undrawn

# By the name that timm has for the network: ours, and the gain of normal weights that
# keeps its activations in range.
NETWORKS = {
    "efficientnet_x_b3": ("efficientnet-x-b3-timm", 1.94),
    "efficientnet_x_b5": ("efficientnet-x-b5-timm", 1.71),
    "efficientnet_h_b5": ("efficientnet-h-b5-timm", 1.66),
    "tf_efficientnet_b0": ("efficientnet-b0", 2.18),
    "tf_efficientnet_b1": ("efficientnet-b1", 1.96),
    "tf_efficientnet_b2": ("efficientnet-b2", 1.93),
    "tf_efficientnet_b3": ("efficientnet-b3", 1.93),
    "efficientnet_b0": ("efficientnet-b0", 2.2),
    "tf_efficientnet_lite0": ("efficientnet-lite0", 1.6),
    "tf_efficientnet_lite1": ("efficientnet-lite1", 1.6),
    "tf_efficientnet_lite2": ("efficientnet-lite2", 1.6),
    "tf_efficientnet_lite3": ("efficientnet-lite3", 1.6),
    "tf_efficientnet_lite4": ("efficientnet-lite4", 1.6),
    "tf_efficientnetv2_b0": ("efficientnetv2-b0", 1.6),
    "tf_efficientnetv2_b1": ("efficientnetv2-b1", 1.5),
    "tf_efficientnetv2_b2": ("efficientnetv2-b2", 1.5),
    "tf_efficientnetv2_b3": ("efficientnetv2-b3", 1.5),
    "tf_efficientnetv2_s": ("efficientnetv2-s", 2.3),
    "tf_efficientnetv2_m": ("efficientnetv2-m", 2.2),
    "tf_efficientnetv2_l": ("efficientnetv2-l", 2.2),
    "tf_efficientnetv2_xl": ("efficientnetv2-xl", 2.2),
}
# So deep that on such weights float32 is off by a quarter of the logits: where a block
# adds its inputs, its branch is made a small part of the sum.
DEEP = (
    "tf_efficientnetv2_s",
    "tf_efficientnetv2_m",
    "tf_efficientnetv2_l",
    "tf_efficientnetv2_xl",
)
SIZES = (64, 75)
NUM_CLASSES = 32


def state_dict(network, shapes):
    """Return random arrays for timm's names -> shapes; each follows from its name."""
    _, gain = NETWORKS[network]
    tensors = {n: _tensor(n, tuple(shape), gain) for n, shape in shapes.items()}
    if network in DEEP:
        for name in _last_gammas(shapes):
            tensors[name] *= np.float32(0.1)
    return tensors


def _last_gammas(names):
    """Return the last gamma of each block that adds its inputs; a stage's first not."""
    found = {}
    for name in sorted(names):
        if match := re.match(r"(blocks\.\d+\.[1-9]\d*)\.bn\d\.weight", name):
            found[match[1]] = name
    return found.values()


def _tensor(name, shape, gain):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    role = name.split(".")[-1]
    if role == "num_batches_tracked":
        return np.array(0)
    if role == "running_var":
        return random.uniform(0.5, 1.5, size=shape).astype(np.float32)
    values = random.normal(size=shape)
    if role != "weight":
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        scale = gain if len(shape) == 4 else 1
        values = values * np.sqrt(scale / np.prod(shape[1:]))
    return values.astype(np.float32)


def recorded(network):
    """Return the state dict and, by size, the logits that timm made of it."""
    golden = read_json("models/timm.json.xz")[network]
    logits = {int(size): np.array(v) for size, v in golden["logits"].items()}
    return state_dict(network, golden["shapes"]), logits


def pixels(size):
    """Return two random images in 0..255."""
    random = np.random.RandomState(11)
    return random.uniform(0, 255, size=(2, size, size, 3)).astype(np.float32)


def normalized(network, images):
    """Return what timm's networks take: normalised as by ours, channels first."""
    variant = get_variant(NETWORKS[network][0])
    images = (images - np.array(variant.mean_rgb)) / np.array(variant.std_rgb)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)


def our_network(network, state):
    """Return our network with the weights of timm's, for the smallest images."""
    import models  # not where timm runs: no Keras there

    variant = get_variant(NETWORKS[network][0])
    if network == "efficientnet_b0":  # timm's own training, not the authors'
        timms = {"dialect": "timm", "batch_norm_epsilon": 1e-5}
        variant = dataclasses.replace(variant, **timms)
    with undrawn():
        model = models.build_model(
            variant, num_classes=NUM_CLASSES, resolution=min(SIZES)
        )
    models.weight_loading.load_timm(model, state)
    return model


def our_logits(model, size):
    """Return the logits of what `our_network` returned, for images of this size."""
    from models.resize import at_resolution

    return np.asarray(at_resolution(model, size)(pixels(size)))
