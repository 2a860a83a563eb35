"""A network of two blocks, an augmentation: what a loop is tested with, in seconds."""

from typing import Any

import numpy as np
import tensorflow as tf

from models import variants

# Summands of a logit, layer by layer: 27 of the stem, 8 + 9 + 16 of the first block,
# 72 + 16 of the second, 8 of the head, 16 of the classifier, four pools of 8 x 8.
TERMS = 430


def variant() -> variants.Variant:
    """Returns a stem, an MBConv and a fused MBConv with a skip, and a head."""
    stage = variants.StageSpec(
        num_repeat=1,
        kernel_size=3,
        strides=2,
        expand_ratio=2,
        output_filters=8,
        activation="swish",
    )
    skip = dict(vars(stage), strides=1, fused=True)
    return variants.Variant(
        name="tiny",
        width_coefficient=1.0,
        depth_coefficient=1.0,
        resolution=32,
        dropout_rate=0.2,
        se_coefficient=1,
        stages=(stage, variants.StageSpec(**skip)),
        stem_filters=8,
        head_filters=16,
    )


def brighten(image: tf.Tensor, seed: tf.Tensor, *, magnitude: int = 9) -> tf.Tensor:
    """Adds up to `magnitude` grey levels: an augmentation of few operations."""
    level = tf.random.stateless_uniform([], seed, 0, magnitude + 1, tf.int32)
    return tf.cast(tf.minimum(tf.cast(image, tf.int32) + level, 255), tf.uint8)


def tinted(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    colour: np.ndarray = np.array([1.0, 0.9, 0.8], np.float32),  # noqa: B008
    fill: float = float("nan"),
) -> tf.Tensor:
    """An augmentation with defaults that no config can say."""
    del seed, fill
    return tf.cast(tf.cast(image, tf.float32) * colour, tf.uint8)


def made_up(
    *,
    data_dir: str,
    split: str,
    resolution: int,
    patch_size: int,
    layout: str,
    batch_size: int,
    seed: int,
    start: int,
    num_hosts: int,
    host: int,
    global_batch_size: int = 16,
) -> tf.data.Dataset:
    """Batches whose images are the same on any number of hosts and replicas.

    Those of input_pipeline are not: each host shuffles records of its own. It takes
    what a function of the user's own has to take, and no more.
    """
    assert (patch_size, layout) == (1, "NHWC")
    del data_dir, split, seed
    share = global_batch_size // num_hosts  # of this host
    parts = share // batch_size  # replicas of a host take turns

    def batch(number: Any) -> dict[str, tf.Tensor]:
        place = number // parts * global_batch_size + host * share
        index = (
            place + number % parts * batch_size + tf.range(batch_size, dtype="int64")
        )
        return tf.vectorized_map(image, index)

    def image(index: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([tf.constant(5, tf.int64), index])
        label = tf.random.stateless_uniform([], seed, 0, 10, tf.int32)
        noise = tf.random.stateless_uniform(
            [resolution, resolution, 3], seed, 0, 128, tf.int32
        )
        return {"image": tf.cast(noise + 10 * label, tf.uint8), "label": label}

    return tf.data.Dataset.range(start // batch_size, tf.int64.max).map(batch)


def poisoned(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, **_
) -> tuple[tf.Tensor, tf.Tensor]:
    """A mixing whose targets are not numbers where an image is all white."""
    white = tf.reduce_any(tf.reduce_all(images > 250, axis=[1, 2, 3]))
    return images, tf.where(white, float("nan"), targets)


def spoilt(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, **_
) -> tuple[tf.Tensor, tf.Tensor]:
    """A mixing by which the gradient of draw 10 is too large for scaled float16.

    Of two replicas without micro-batches that is the first one, in the sixth step.
    """
    return images, targets * tf.where(seed[1] == 10, 1e6, 1.0)


def spelled(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, **_
) -> tuple[tf.Tensor, tf.Tensor]:
    """A mixing with an operation on strings, which XLA does not know."""
    digits = tf.strings.length(tf.strings.as_string(seed[0]))
    return images, targets + 0.0 * tf.cast(digits, targets.dtype)


def inverted(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """An augmentation that Python computes."""
    del seed
    found = tf.numpy_function(lambda pixels: 255 - pixels, [image], tf.uint8)
    return tf.ensure_shape(found, image.shape)
