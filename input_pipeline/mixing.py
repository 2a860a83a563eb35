"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch on the device.

Image i is mixed with image B - 1 - i, as timm and the Model Garden do. Whether by a
weight or by a box, and by which, each image draws for itself (timm's mode "elem"). All
shapes are static and nothing branches, so that XLA compiles it into the training step.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from common import checks

_BATCH_AXES = {"NHWC": 0, "HWCN": 3}


class Mixture(NamedTuple):
    """What is left of each image: `share` of it outside a box, nothing inside.

    share: float32[B] in 0..1; the partner gets the rest.
    box: int32[4, B]: top, left, bottom, right in pixels. The last two are not inside.
    """

    share: tf.Tensor
    box: tf.Tensor


@checks.rules(
    mixup_alpha=checks.between(0, 1000),
    cutmix_alpha=checks.between(0, 1000),
    switch_prob=checks.FRACTION,
    layout=checks.one_of(*_BATCH_AXES),
)
def mixup_cutmix(
    images: tf.Tensor,
    targets: tf.Tensor,
    seed: tf.Tensor,
    *,
    mixup_alpha: float = 0.2,
    cutmix_alpha: float = 1.0,
    switch_prob: float = 0.5,
    layout: str = "NHWC",
    patch_size: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image with its partner, by CutMix or by mixup.

    Args:
      images: uint8 or float [B, H, W, 3], pixels in 0..255; their form is another where
        layout and patch_size say so.
      targets: float32[B, C], the classes' shares. A row of zeros marks what is not an
        image: it and its partner stay as they are. Labels may be smoothed before (but
        for the rows of zeros) or after, mixing being linear.
      seed: int32 or int64 [2]; the result depends on it and the batch alone.
      mixup_alpha: mixup's weight is Beta(alpha, alpha); 0 for no mixup.
      cutmix_alpha: the share of the image outside the box is Beta(alpha, alpha) before
        the border clips the box; 0 for no CutMix.
      switch_prob: of CutMix where there are both, for each image on its own.
      layout: "NHWC", or "HWCN" for images with the batch last.
      patch_size: n: patches of n x n pixels lie in the channels, as by
        `tf.nn.space_to_depth`.

    Returns:
      float32 images of the same form, and float32[B, C] targets.

    Raises:
      UserError: a negative alpha, a probability outside 0..1 or an unknown layout.
    """
    images = tf.cast(images, tf.float32)
    if not mixup_alpha and not cutmix_alpha:
        return images, targets
    if not (mixup_alpha and cutmix_alpha):
        switch_prob = 1.0 if cutmix_alpha else 0.0
    draws = _uniform([5, tf.shape(targets)[0]], seed)
    cut = draws[0] < switch_prob
    weight = beta(draws[1:3], tf.where(cut, float(cutmix_alpha), float(mixup_alpha)))
    weight = tf.where(_countable_pairs(targets), weight, 1.0)
    size = image_size(images, layout, patch_size)
    mixture = Mixture(
        share=tf.where(cut, 1.0, weight),
        box=boxes(tf.where(cut, weight, 1.0), draws[3:], size),
    )
    return mix(images, targets, mixture, layout=layout, patch_size=patch_size)


def mix(
    images: tf.Tensor,
    targets: tf.Tensor,
    mixture: Mixture,
    *,
    layout: str = "NHWC",
    patch_size: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix float32 images and targets, in the forms of `mixup_cutmix`."""
    axis = _BATCH_AXES[layout]
    height, width = image_size(images, layout, patch_size)
    top, left, bottom, right = tf.unstack(mixture.box)
    area = tf.cast((bottom - top) * (right - left), tf.float32)
    kept = mixture.share * (1.0 - area / (height * width))
    inside = _inside(mixture.box, height, width, layout, patch_size)
    weight = tf.where(inside, 0.0, _per_image(mixture.share, layout))
    return (
        _blend(images, weight, axis),
        _blend(targets, kept[:, None], axis=0),
    )


def beta(draws: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Make two uniform numbers in [0, 1) into one of Beta(alpha, alpha).

    Exact and without rejections. Bailey (1994) makes Student's t of 2 alpha degrees of
    freedom, sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v), and (1 + t / sqrt(2 alpha +
    t^2)) / 2 is Beta(alpha, alpha) (Devroye, 1996). The smaller part is computed for
    itself: with a small alpha most lie closer to 0 or 1 than float32 resolves at 1.

    Args:
      draws: float32[2, ...].
      alpha: float32[...], above 0.

    Returns:
      float32[...] in 0..1.
    """
    power = draws[0] ** (1.0 / alpha)
    cosine = tf.cos(2.0 * np.pi * draws[1])
    rest = power / (power + (1.0 - power) * cosine**2)  # 2 alpha / (2 alpha + t^2)
    smaller = 0.5 * rest / (1.0 + tf.sqrt(1.0 - rest))
    return tf.where(cosine < 0.0, smaller, 1.0 - smaller)


def boxes(weight: tf.Tensor, draws: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Return CutMix's boxes: a share 1 - weight of the image, clipped by its border.

    Args:
      weight: float32[B] in 0..1; 1 for an empty box.
      draws: float32[2, B], uniform numbers in [0, 1): the middle's y and x.
      size: the image's height and width in pixels.

    Returns:
      int32[4, B], as `Mixture.box`.
    """
    extent = tf.constant([[size[0]], [size[1]]], tf.float32)
    half = tf.cast(extent * tf.sqrt(1.0 - weight), tf.int32) // 2
    center = tf.cast(extent * draws, tf.int32)
    limit = tf.cast(extent, tf.int32)
    begin, end = tf.maximum(center - half, 0), tf.minimum(center + half, limit)
    return tf.concat([begin, end], axis=0)


def image_size(images: tf.Tensor, layout: str, patch_size: int) -> tuple[int, int]:
    """Return height and width in pixels of images in any form."""
    sides = images.shape.as_list()
    del sides[_BATCH_AXES[layout]]
    height, width, _ = sides
    if height is None or width is None:
        raise ValueError("mixing needs images of a static shape")
    return patch_size * height, patch_size * width


def _uniform(shape: list, seed: tf.Tensor) -> tf.Tensor:
    """Draw numbers in [0, 1), the same on every device, compiled by XLA or not."""
    # Given a range, XLA takes other bits of the same numbers than TensorFlow's kernel
    # does (tensorflow issue 117644), and a TPU another algorithm.
    bits = tf.random.stateless_uniform(
        shape,
        seed,
        minval=None,  # pyright: ignore[reportArgumentType] - all 32 bits
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
    return tf.cast(tf.bitwise.right_shift(bits, 9), tf.float32) * 2.0**-23


def _countable_pairs(targets: tf.Tensor) -> tf.Tensor:
    countable = tf.reduce_any(targets != 0.0, axis=1)
    return countable & tf.reverse(countable, [0])


def _blend(values: tf.Tensor, weight: tf.Tensor, axis: int) -> tf.Tensor:
    return weight * values + (1.0 - weight) * tf.reverse(values, [axis])


def _per_image(values: tf.Tensor, layout: str) -> tf.Tensor:
    """Give [B] a shape that broadcasts over images."""
    shape = [1, 1, 1, 1]
    shape[_BATCH_AXES[layout]] = -1
    return tf.reshape(values, shape)


def _inside(
    box: tf.Tensor, height: int, width: int, layout: str, patch_size: int
) -> tf.Tensor:
    """Return bool of the images' form: which numbers lie in their image's box."""
    # The pixel of each number of one image, rather than masks that are rearranged as
    # the images were: this much XLA fuses into the blend, and moves no memory.
    pixel = np.arange(3 * patch_size**2) // 3  # in the patch, of each channel
    rows = np.arange(0, height, patch_size)[:, None, None] + pixel // patch_size
    columns = np.arange(0, width, patch_size)[None, :, None] + pixel % patch_size
    y, x = (
        tf.constant(np.expand_dims(grid, _BATCH_AXES[layout]), tf.int32)
        for grid in (rows, columns)
    )
    top, left, bottom, right = (_per_image(side, layout) for side in tf.unstack(box))
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
