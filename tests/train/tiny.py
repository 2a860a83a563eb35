"""A network of two blocks, an augmentation: what a loop is tested with, in seconds."""

import tensorflow as tf

from models import variants


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
