"""Initial weights: the reference's distributions, and one seed for a whole model."""

import zlib

import keras


def derive_seed(seed: int, name: str) -> int:
    """Give every named part its own seed, so that no two begin with equal weights."""
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def kernel_initializer(seed: int) -> keras.initializers.Initializer:
    """Draw from N(0, sqrt(2 / (height * width * output filters))), as the reference.

    Of a depthwise kernel Keras counts one output filter, and so does the reference.
    """
    return keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal", seed=seed
    )


def classifier_initializer(seed: int) -> keras.initializers.Initializer:
    """Draw from U(-1 / sqrt(classes), 1 / sqrt(classes)), as the reference."""
    # VarianceScaling's uniform limit is sqrt(3 * scale / fan_out).
    return keras.initializers.VarianceScaling(
        scale=1 / 3, mode="fan_out", distribution="uniform", seed=seed
    )
