"""Bytes of a JPEG to pixels, as `preprocess` makes them, in one op."""

from typing import Any

import tensorflow as tf

from input_pipeline.preprocess import (
    EvalCrop,
    is_mirrored,
    jpeg_shape,
    random_window,
)


def train_image(
    encoded: tf.Tensor,
    resolution: int,
    seed: tf.Tensor,
    *,
    ops: Any,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
    flip: bool,
    method: str,
    pixels: str,
) -> tf.Tensor:
    """Do what `preprocess.train_image` does, of a JPEG.

    Args:
      encoded: as there, like all but the following.
      resolution: S.
      seed: see there.
      ops: the module of the fused ops.
      area_range: see there.
      aspect_ratio_range: see there.
      flip: see there.
      method: see there.
      pixels: "floor" is its `to_uint8`, "nearest" its `nearest_uint8`.

    Returns:
      uint8[S, S, 3].
    """
    window = random_window(
        jpeg_shape(encoded),
        resolution,
        seed,
        area_range=area_range,
        aspect_ratio_range=aspect_ratio_range,
    )
    mirrored = is_mirrored(seed) if flip else tf.constant(False)
    return crop_resize(ops, encoded, window, mirrored, resolution, method, pixels)


def eval_image(
    encoded: tf.Tensor, resolution: int, crop: EvalCrop, *, ops: Any
) -> tf.Tensor:
    """Do what `preprocess.eval_image` does, of a JPEG, by a module of fused ops."""
    window = crop.window(jpeg_shape(encoded), resolution)
    pixels = {"float32": "float", "uint8": "nearest"}[crop.pixels]
    mirrored = tf.constant(False)
    return crop_resize(ops, encoded, window, mirrored, resolution, crop.resize, pixels)


def crop_resize(
    ops: Any,
    encoded: tf.Tensor,
    window: tf.Tensor,
    mirrored: tf.Tensor,
    resolution: int,
    method: str,
    pixels: str,
) -> tf.Tensor:
    """Decode a part of a JPEG, resize and mirror it.

    Args:
      ops: the module of the fused ops.
      encoded: the file.
      window: int32[4], top, left, height, width.
      mirrored: whether left becomes right.
      resolution: S.
      method: of `preprocess.EvalCrop.resize`.
      pixels: "float" as they are, "floor" or "nearest" in whole levels.

    Returns:
      float32 or uint8 [S, S, 3].

    Raises:
      InvalidArgumentError: it does not decode, or the window is not within it.
    """
    image = ops.efficientnetx_crop_resize(
        encoded,
        window,
        mirrored,
        size=resolution,
        resize=method,
        pixels=pixels,
        T=tf.float32 if pixels == "float" else tf.uint8,
    )
    return tf.ensure_shape(image, [resolution, resolution, 3])
