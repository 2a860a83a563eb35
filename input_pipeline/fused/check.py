"""Whether fused ops give what TensorFlow's give, bit for bit, here and now."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from input_pipeline import preprocess, randaugment
from input_pipeline.fused import images, library

_SIDES = (61, 90)  # of the images, odd and even
_RESOLUTIONS = (1, 32, 75)
_WINDOWS = ((0, 0, 61, 90), (3, 17, 40, 59), (60, 89, 1, 1))
_MAGNITUDES = (0, 3, 10, 23, 31)
_ROUNDINGS = {
    "float": tf.identity,
    "floor": preprocess.to_uint8,
    "nearest": preprocess.nearest_uint8,
}


class Outcome(NamedTuple):
    """How many cases were tried, and which gave another image."""

    cases: int
    different: list[str]


def compare(ops: Any) -> Outcome:
    """Compare a module of fused ops with TensorFlow's own on made-up images."""
    photo = _photo()
    outcomes = [*_crops(ops, photo), *_augmentations(ops, photo)]
    return Outcome(len(outcomes), [what for what, is_equal in outcomes if not is_equal])


def _photo() -> np.ndarray:
    """Return uint8[H, W, 3] with slopes, edges and noise."""
    height, width = _SIDES
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.RandomState(0).randint(0, 24, [height, width, 3])
    slopes = np.stack([2 * rows, columns + 30, 255 - rows - columns // 2], axis=-1)
    edges = 90 * ((rows // 8 + columns // 8) % 2)[..., None]
    return np.clip(slopes + edges + noise - 40, 0, 255).astype(np.uint8)


def _crops(ops: Any, photo: np.ndarray) -> Iterator[tuple[str, bool]]:
    encoded = tf.io.encode_jpeg(photo, quality=90)
    methods = preprocess.RESIZES
    for method, size, window in itertools.product(methods, _RESOLUTIONS, _WINDOWS):
        crop = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        resized = preprocess.resize(crop, size, method)
        for pixels, rounded in _ROUNDINGS.items():
            want = rounded(resized)
            for is_mirrored in (False, True):
                mirrored = tf.constant(is_mirrored)
                got = images.crop_resize(
                    ops, encoded, tf.constant(window), mirrored, size, method, pixels
                )
                what = (
                    f"{method} of {window} to {size}, {pixels}, mirrored: {is_mirrored}"
                )
                yield what, _equal(got, want[:, ::-1] if is_mirrored else want)


def _augmentations(ops: Any, photo: np.ndarray) -> Iterator[tuple[str, bool]]:
    draws = np.array([[0.1, 0.3, 0.9], [0.7, 0.0, 0.5], [0.9, 0.99, 0.2]], np.float32)
    for magnitude in _MAGNITUDES:
        steps = [randaugment.AtLevel(name, magnitude) for name in randaugment.OP_NAMES]
        for number, name in enumerate(randaugment.OP_NAMES):
            # The op behind it, and then once more, in the other direction.
            chosen = [number, (number + 7) % len(steps), number]
            want = one_by_one(photo, steps, chosen, draws)
            with library.use(ops):
                got = randaugment.in_turn(
                    tf.constant(photo), steps, tf.constant(chosen), tf.constant(draws)
                )
            yield f"{name} at {magnitude}", _equal(got, want)


def one_by_one(
    image: np.ndarray,
    ops: Sequence[randaugment.AtLevel | None],
    chosen: Sequence[int],
    draws: np.ndarray,
) -> tf.Tensor:
    """Do what `randaugment.in_turn` does, without a graph: of TensorFlow's ops."""
    pixels = tf.constant(image)
    sides = np.array(image.shape[:2], np.float32)
    for number, draw in zip(chosen, draws, strict=True):
        if (op := ops[number]) is not None:
            sign = -1.0 if draw[0] < 0.5 else 1.0
            center = (draw[1:] * sides).astype(np.int32)
            pixels = randaugment.apply_op(
                pixels,
                op.name,
                op.magnitude,
                sign,
                tf.constant(center),
                translate_const=op.translate_const,
                cutout_const=op.cutout_const,
            )
    return pixels


def _equal(got: tf.Tensor, want: tf.Tensor) -> bool:
    return got.dtype == want.dtype and np.array_equal(got.numpy(), want.numpy())
