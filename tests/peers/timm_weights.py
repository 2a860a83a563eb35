"""Weights and pixels for timm's networks, the same with torch and without it."""

import dataclasses
import zlib

import numpy as np

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
}
SIZES = (64, 75)
NUM_CLASSES = 32


def state_dict(network, shapes):
    """Return random arrays for timm's names -> shapes; each follows from its name."""
    _, gain = NETWORKS[network]
    return {name: _tensor(name, tuple(shape), gain) for name, shape in shapes.items()}


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


def normalized(images):
    """Return what timm's networks take: normalised, channels first."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = (images / 255 - np.array(mean)) / np.array(std)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)


def our_network(network, state):
    """Return our network with the weights of timm's, for the smallest images."""
    import models  # not where timm runs: no Keras there

    variant = models.get_variant(NETWORKS[network][0])
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
