"""RandAugment (Cubuk et al., 2020), bit-equal to the authors' TF1 reference.

The reference is tensorflow/tpu, models/official/efficientnet/autoaugment.py. Images are
uint8[H, W, 3] of static shape. A magnitude of 10 is level 1; larger ones are allowed.
"""

import difflib
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from input_pipeline.errors import DataError

_FILL = 128  # grey of the pixels that a geometric op uncovers, and of Cutout


class _Draw(NamedTuple):
    """What an op draws at random: a sign (-1 or 1) and Cutout's centre (y, x)."""

    sign: tf.Tensor
    center: tf.Tensor


def _size(image: tf.Tensor) -> tuple[int, int]:
    height, width, _ = image.shape
    if height is None or width is None:
        raise ValueError("RandAugment needs images of a static shape")
    return height, width


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    """Moves from the degenerate image (factor 0) to the image (1) and beyond."""
    start = tf.cast(degenerate, tf.float32)
    return _to_uint8(start + factor * (tf.cast(image, tf.float32) - start))


def _auto_contrast(image: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(image, tf.float32)
    low = tf.reduce_min(pixels, axis=(0, 1))
    high = tf.reduce_max(pixels, axis=(0, 1))
    scale = tf.where(high > low, 255.0 / (high - low), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    return _to_uint8(pixels * scale + offset)


def _equalize(image: tf.Tensor) -> tf.Tensor:
    channels = tf.transpose(tf.reshape(tf.cast(image, tf.int32), [-1, 3]))
    counts = tf.math.bincount(channels, minlength=256, maxlength=256, axis=-1)
    brightest = tf.reduce_max(channels, axis=1)
    last = tf.gather(counts, brightest[:, None], batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1, keepdims=True) - last) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256)[None])
    equal = tf.gather(tf.cast(table, tf.uint8), channels, batch_dims=1)
    return tf.reshape(tf.transpose(equal), tf.shape(image))


def _posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    # The reference's shift wraps to uint8 and the kernel clamps it to 7: no bits and
    # more than 8 bits both leave one.
    shift = tf.constant(min((8 - bits) % 256, 7), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    # In the reference too the threshold wraps to uint8: 256 inverts everything.
    return tf.where(image < threshold % 256, image, 255 - image)


def _solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    brighter = tf.minimum(tf.cast(image, tf.int32) + addition, 255)
    return tf.where(image < 128, tf.cast(brighter, tf.uint8), image)


def _color(image: tf.Tensor, factor: float) -> tf.Tensor:
    return _blend(tf.image.rgb_to_grayscale(image), image, factor)


def _contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    # The reference takes the mean of the histogram's bins, not of the pixels.
    height, width = _size(image)
    grey = int(min(height * width / 256.0, 255.0))
    return _blend(tf.constant(grey, tf.uint8), image, factor)


def _sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    # The mean of nine pixels, the middle one five times. Many a sum is a whole number
    # but for its last bit, by which it is cut off to one grey level or another: a
    # convolution adds in an order, and with fused operations, that depend on the CPU.
    height, width = _size(image)
    pixels = tf.cast(image, tf.float32)
    shifts = [(row, column) for row in range(3) for column in range(3)]
    terms = [
        pixels[row : height - 2 + row, column : width - 2 + column]
        * (np.float32(5 if (row, column) == (1, 1) else 1) / np.float32(13))
        for row, column in shifts
    ]
    smooth = functools.reduce(tf.add, terms)
    inner = _blend(_to_uint8(smooth), image[1:-1, 1:-1], factor)
    rows = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], rows, image[-1:]], axis=0)


def _transform(image: tf.Tensor, matrix: list) -> tf.Tensor:
    """Output pixel (x, y) shows input (a x + b y + c, d x + e y + f), nearest."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([[*matrix, 0.0, 0.0]]),
        output_shape=image.shape[:2],
        fill_value=float(_FILL),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns about the centre of the image."""
    cos = tf.cos(degrees * (math.pi / 180.0))
    sin = tf.sin(degrees * (math.pi / 180.0))
    height, width = _size(image)
    bottom, right = height - 1.0, width - 1.0
    left = (right - (cos * right - sin * bottom)) / 2.0
    top = (bottom - (sin * right + cos * bottom)) / 2.0
    return _transform(image, [cos, -sin, left, sin, cos, top])


def _cutout(image: tf.Tensor, half_side: int, center: tf.Tensor) -> tf.Tensor:
    height, width = _size(image)
    rows = tf.range(height)[:, None, None] - center[0]
    columns = tf.range(width)[None, :, None] - center[1]
    hidden = (rows >= -half_side) & (rows < half_side)
    hidden &= (columns >= -half_side) & (columns < half_side)
    return tf.where(hidden, tf.constant(_FILL, tf.uint8), image)


def _factor(level: float) -> float:
    return level * 1.8 + 0.1


# In the reference's order. fmt: off
_OPS: dict[str, Callable[[tf.Tensor, float, _Draw], tf.Tensor]] = {
    "AutoContrast": lambda im, level, draw: _auto_contrast(im),
    "Equalize": lambda im, level, draw: _equalize(im),
    "Invert": lambda im, level, draw: 255 - im,
    "Rotate": lambda im, level, draw: _rotate(im, level * 30.0 * draw.sign),
    "Posterize": lambda im, level, draw: _posterize(im, int(level * 4)),
    "Solarize": lambda im, level, draw: _solarize(im, int(level * 256)),
    "Color": lambda im, level, draw: _color(im, _factor(level)),
    "Contrast": lambda im, level, draw: _contrast(im, _factor(level)),
    "Brightness": lambda im, level, draw: _blend(
        tf.zeros([], tf.uint8), im, _factor(level)
    ),
    "Sharpness": lambda im, level, draw: _sharpness(im, _factor(level)),
    "ShearX": lambda im, level, draw: _transform(
        im, [1.0, level * 0.3 * draw.sign, 0.0, 0.0, 1.0, 0.0]
    ),
    "ShearY": lambda im, level, draw: _transform(
        im, [1.0, 0.0, 0.0, level * 0.3 * draw.sign, 1.0, 0.0]
    ),
    "TranslateX": lambda im, level, draw: _transform(
        im, [1.0, 0.0, level * 100.0 * draw.sign, 0.0, 1.0, 0.0]
    ),
    "TranslateY": lambda im, level, draw: _transform(
        im, [1.0, 0.0, 0.0, 0.0, 1.0, level * 100.0 * draw.sign]
    ),
    "Cutout": lambda im, level, draw: _cutout(im, int(level * 40), draw.center),
    "SolarizeAdd": lambda im, level, draw: _solarize_add(im, int(level * 110)),
}
# fmt: on
OP_NAMES = tuple(_OPS)


def apply_op(
    image: tf.Tensor,
    name: str,
    magnitude: float,
    sign: float | tf.Tensor = 1.0,
    center: tuple[int, int] | tf.Tensor | None = None,
) -> tf.Tensor:
    """Applies one op with nothing left to chance.

    Args:
      image: uint8[H, W, 3] of static shape.
      name: one of OP_NAMES.
      magnitude: RandAugment's M, 0 or more.
      sign: 1 or -1, the direction of Rotate, Shear and Translate.
      center: (y, x) of Cutout; the image's middle if None.

    Returns:
      uint8[H, W, 3].

    Raises:
      DataError: an unknown name.
    """
    if name not in _OPS:
        near = difflib.get_close_matches(name, OP_NAMES, n=3, cutoff=0.4) or OP_NAMES
        raise DataError(
            f"RandAugment has no op {name!r}: did you mean {' or '.join(near)}?"
        )
    height, width = _size(image)
    if center is None:
        center = (height // 2, width // 2)
    draw = _Draw(tf.cast(sign, tf.float32), tf.convert_to_tensor(center, tf.int32))
    return tf.ensure_shape(_OPS[name](image, magnitude / 10, draw), image.shape)


def rand_augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    num_layers: int = 2,
    magnitude: float = 10,
) -> tf.Tensor:
    """Applies `num_layers` ops, each drawn from all 16 with equal chances.

    Args:
      image: uint8[H, W, 3] of static shape.
      seed: int32 or int64 [2]; the result depends on it and the image alone.
      num_layers: RandAugment's N.
      magnitude: RandAugment's M.

    Returns:
      uint8[H, W, 3].
    """
    draws = tf.random.stateless_uniform([num_layers, 4], seed)
    # A function, so that the 16 branches are built once and not once a layer.
    layer = tf.function(
        lambda image, draw: _random_op(image, draw, magnitude), autograph=False
    )
    for draw in tf.unstack(draws):
        image = layer(image, draw)
    return image


def _random_op(image: tf.Tensor, draw: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Spends four uniform numbers on the op, its sign and Cutout's centre."""
    index = tf.cast(draw[0] * len(OP_NAMES), tf.int32)
    sign = tf.where(draw[1] < 0.5, -1.0, 1.0)
    extent = tf.constant(_size(image), tf.float32)
    center = tf.cast(draw[2:] * extent, tf.int32)

    def branch(name: str) -> Callable[[], tf.Tensor]:
        return lambda: apply_op(image, name, magnitude, sign, center)

    return tf.switch_case(index, [branch(name) for name in OP_NAMES])
