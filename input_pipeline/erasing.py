"""Random erasing (Zhong et al., 2020): noise in a random rectangle.

The rectangle is drawn as in timm (timm/data/random_erasing.py), whence the Model
Garden's comes too. Both fill images that are normalised already with N(0, 1); the same
noise in pixels is N(mean, std) of that normalisation, of which uint8 clips about 3 %.
"""

import math

import tensorflow as tf

from common import checks

_TRIALS = 10

# ImageNet's, by which the model normalises its pixels.
_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@checks.rules(
    probability=checks.FRACTION,
    area_range=checks.SHARES,
    aspect_ratio_range=checks.RATIOS,
)
def random_erasing(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    probability: float = 0.25,
    area_range: tuple[float, float] = (0.02, 1 / 3),
    aspect_ratio_range: tuple[float, float] = (0.3, 1 / 0.3),
) -> tf.Tensor:
    """Fill a rectangle of some images with noise, each pixel and channel on its own.

    Args:
      image: uint8[H, W, 3].
      seed: int32 or int64 [2], of no other augmentation; the result depends on it and
        the image alone.
      probability: of erasing at all. An image also stays when none of 10 rectangles
        drawn fits into it.
      area_range: smallest and largest share of the image in the rectangle; uniform.
      aspect_ratio_range: smallest and largest height / width; its logarithm is uniform.

    Returns:
      uint8[H, W, 3].

    Raises:
      UserError: a probability outside 0..1, or a range that is none.
    """
    # One seed gives one sequence of numbers, and one per type of its split.
    box_seed, noise_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int64)))
    draws = tf.random.stateless_uniform([3 + 2 * _TRIALS], box_seed)
    trials = tf.reshape(draws[3:], [2, _TRIALS])
    sizes = draw_sizes(tf.shape(image), trials, area_range, aspect_ratio_range)
    fits = tf.reduce_all(sizes < tf.shape(image)[:2], axis=1)

    def erase() -> tf.Tensor:
        size = sizes[tf.where(fits)[0, 0]]
        room = tf.cast(tf.shape(image)[:2] - size + 1, tf.float32)
        corner = tf.cast(draws[1:3] * room, tf.int32)
        return fill(image, corner, _noise(size, noise_seed))

    erased = (draws[0] < probability) & tf.reduce_any(fits)
    return tf.cond(erased, erase, lambda: image)


def draw_sizes(
    image_shape: tf.Tensor,
    draws: tf.Tensor,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
) -> tf.Tensor:
    """Make uniform numbers [2, trials] into heights and widths, int32[trials, 2]."""
    smallest, largest = area_range
    flattest, steepest = map(math.log, aspect_ratio_range)
    pixels = tf.cast(tf.reduce_prod(image_shape[:2]), tf.float32)
    area = pixels * (smallest + draws[0] * (largest - smallest))
    aspect_ratio = tf.exp(flattest + draws[1] * (steepest - flattest))
    sides = tf.sqrt(tf.stack([area * aspect_ratio, area / aspect_ratio], axis=1))
    return tf.cast(tf.round(sides), tf.int32)


def _noise(size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    normal = tf.random.stateless_normal(tf.concat([size, [3]], axis=0), seed)
    pixels = tf.round(tf.constant(_MEAN) + normal * tf.constant(_STD))
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


def fill(image: tf.Tensor, corner: tf.Tensor, patch: tf.Tensor) -> tf.Tensor:
    """Put uint8[h, w, 3] into uint8[H, W, 3], its first pixel at int32[2], (y, x)."""
    top, left = tf.unstack(corner)
    bottom, right = tf.unstack(corner + tf.shape(patch)[:2])
    band = image[top:bottom]
    band = tf.concat([band[:, :left], patch, band[:, right:]], axis=1)
    filled = tf.concat([image[:top], band, image[bottom:]], axis=0)
    return tf.ensure_shape(filled, image.shape)
