"""RandAugment's ops in their plainest form: what the fast ones must equal bit for bit.

They are to be called eagerly: a graph's optimiser may change the order of sums. Images
are uint8[H, W, 3].
"""

import functools
import math

import numpy as np
import tensorflow as tf


def size(image: tf.Tensor) -> tuple[int, int]:
    height, width, _ = image.numpy().shape
    return height, width


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


def blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    start = tf.cast(degenerate, tf.float32)
    return to_uint8(start + factor * (tf.cast(image, tf.float32) - start))


def auto_contrast(image: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(image, tf.float32)
    low = tf.reduce_min(pixels, axis=(0, 1))
    high = tf.reduce_max(pixels, axis=(0, 1))
    scale = tf.where(high > low, 255.0 / (high - low), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    return to_uint8(pixels * scale + offset)


def equalize(image: tf.Tensor) -> tf.Tensor:
    return tf.stack([equalize_channel(c) for c in tf.unstack(image, axis=2)], axis=2)


def equalize_channel(channel: tf.Tensor) -> tf.Tensor:
    counts = np.bincount(np.ravel(channel), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    if step == 0:
        return channel
    below = np.cumsum(counts) - counts
    table = np.minimum((below + step // 2) // step, 255)
    return tf.constant(table[channel.numpy()], tf.uint8)


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    shift = tf.constant(min((8 - bits) % 256, 7), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    return tf.where(image < threshold % 256, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    brighter = tf.minimum(tf.cast(image, tf.int32) + addition, 255)
    return tf.where(image < 128, tf.cast(brighter, tf.uint8), image)


def color(image: tf.Tensor, factor: float) -> tf.Tensor:
    return blend(tf.image.rgb_to_grayscale(image), image, factor)


def contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    height, width = size(image)
    grey = int(min(height * width / 256.0, 255.0))
    return blend(tf.constant(grey, tf.uint8), image, factor)


def sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    height, width = size(image)
    pixels = tf.cast(image, tf.float32)
    terms = [
        pixels[row : height - 2 + row, column : width - 2 + column]
        * (np.float32(5 if (row, column) == (1, 1) else 1) / np.float32(13))
        for row in range(3)
        for column in range(3)
    ]
    smooth = functools.reduce(tf.add, terms)
    inner = blend(to_uint8(smooth), image[1:-1, 1:-1], factor)
    rows = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], rows, image[-1:]], axis=0)


def transform(image: tf.Tensor, matrix: list) -> tf.Tensor:
    """Output pixel (x, y) shows input (a x + b y + c, d x + e y + f), nearest."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([[*matrix, 0.0, 0.0]]),
        output_shape=image.shape[:2],
        fill_value=128.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def rotate(image: tf.Tensor, degrees: float) -> tf.Tensor:
    radians = tf.constant(degrees) * (math.pi / 180.0)
    cos, sin = tf.cos(radians), tf.sin(radians)
    bottom, right = (side - 1.0 for side in size(image))
    left = (right - (cos * right - sin * bottom)) / 2.0
    top = (bottom - (sin * right + cos * bottom)) / 2.0
    return transform(image, [cos, -sin, left, sin, cos, top])


def cutout(image: tf.Tensor, half_side: int, center: tuple[int, int]) -> tf.Tensor:
    pixels = image.numpy()
    top, left = (max(c - half_side, 0) for c in center)
    pixels[top : center[0] + half_side, left : center[1] + half_side] = 128
    return tf.constant(pixels)


# fmt: off
OPS = {
    "AutoContrast": lambda im, **_: auto_contrast(im),
    "Equalize": lambda im, **_: equalize(im),
    "Invert": lambda im, **_: 255 - im,
    "Rotate": lambda im, level, sign, **_: rotate(im, sign * level * 30),
    "Posterize": lambda im, level, **_: posterize(im, int(level * 4)),
    "Solarize": lambda im, level, **_: solarize(im, int(level * 256)),
    "Color": lambda im, level, **_: color(im, level * 1.8 + 0.1),
    "Contrast": lambda im, level, **_: contrast(im, level * 1.8 + 0.1),
    "Brightness": lambda im, level, **_: blend(
        tf.zeros_like(im), im, level * 1.8 + 0.1
    ),
    "Sharpness": lambda im, level, **_: sharpness(im, level * 1.8 + 0.1),
    "ShearX": lambda im, level, sign, **_: transform(
        im, [1.0, sign * level * 0.3, 0.0, 0.0, 1.0, 0.0]
    ),
    "ShearY": lambda im, level, sign, **_: transform(
        im, [1.0, 0.0, 0.0, sign * level * 0.3, 1.0, 0.0]
    ),
    "TranslateX": lambda im, level, sign, translate, **_: transform(
        im, [1.0, 0.0, sign * level * translate, 0.0, 1.0, 0.0]
    ),
    "TranslateY": lambda im, level, sign, translate, **_: transform(
        im, [1.0, 0.0, 0.0, 0.0, 1.0, sign * level * translate]
    ),
    "Cutout": lambda im, level, center, cutout_const, **_: cutout(
        im, int(level * cutout_const), center
    ),
    "SolarizeAdd": lambda im, level, **_: solarize_add(im, int(level * 110)),
}
# fmt: on


def apply_op(
    image: tf.Tensor,
    name: str,
    magnitude: float,
    sign: float,
    center: tuple[int, int],
    *,
    translate_const: float = 100.0,
    cutout_const: float = 40.0,
) -> tf.Tensor:
    return OPS[name](
        image,
        level=magnitude / 10,
        sign=sign,
        center=center,
        translate=translate_const,
        cutout_const=cutout_const,
    )


def rand_augment(
    image: tf.Tensor, seed: tf.Tensor, num_layers: int, magnitude: float
) -> tf.Tensor:
    for draw in tf.random.stateless_uniform([num_layers, 4], seed).numpy():
        name = list(OPS)[int(draw[0] * np.float32(len(OPS)))]
        sign = -1.0 if draw[1] < 0.5 else 1.0
        y, x = (draw[2:] * np.array(size(image), np.float32)).astype(int)
        image = apply_op(image, name, magnitude, sign, (y, x))
    return image
