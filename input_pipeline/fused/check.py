"""Whether fused ops give what TensorFlow's give, bit for bit, here and now."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from input_pipeline import preprocess, randaugment
from input_pipeline.autoaugment import auto_augment
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.fused import images, library
from input_pipeline.records import make_example

_SIDES = (61, 90)  # of the images, odd and even
_RESOLUTIONS = (1, 32, 75)
_GROUP = 4
_SEED, _LABEL = 7, 1
_MAGNITUDES = (0, 3, 10, 23, 31)
_INFO = DatasetInfo("photos", label_offset=0, label_names=("none", "photo"), splits={})
_AUGMENTED = (
    ("bicubic", 32, randaugment.rand_augment),
    ("bilinear", 75, auto_augment),
)


class Outcome(NamedTuple):
    """How many cases were tried, and which gave another image."""

    cases: int
    different: list[str]


def compare(ops: Any) -> Outcome:
    """Compare a module of fused ops with TensorFlow's own on made-up images."""
    photo = _photo()
    encoded: Any = tf.io.encode_jpeg(photo, quality=90).numpy()
    outcomes = [
        *_training(ops, encoded),
        *_evaluation(ops, encoded),
        *_augmentations(ops, photo),
    ]
    return Outcome(len(outcomes), [what for what, is_equal in outcomes if not is_equal])


def _photo() -> np.ndarray:
    """Return uint8[H, W, 3] with slopes, edges and noise."""
    height, width = _SIDES
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.RandomState(0).randint(0, 24, [height, width, 3])
    slopes = np.stack([2 * rows, columns + 30, 255 - rows - columns // 2], axis=-1)
    edges = 90 * ((rows // 8 + columns // 8) % 2)[..., None]
    return np.clip(slopes + edges + noise - 40, 0, 255).astype(np.uint8)


def _group(encoded: bytes, indices: Sequence[int]) -> images.Tensors:
    """Return records of one image, as the stream has them."""
    height, width = _SIDES
    record = make_example(
        encoded,
        label=_LABEL,
        height=height,
        width=width,
        filename="photo.JPEG",
        synset="photo",
        text="photo",
    )
    return {
        "serialized": tf.constant([record] * len(indices)),
        "index": tf.constant(indices, tf.int64),
    }


def _training(ops: Any, encoded: bytes) -> Iterator[tuple[str, bool]]:
    group = _group(encoded, range(_GROUP))
    cropped = itertools.product(preprocess.RESIZES, _RESOLUTIONS, [None])
    for method, size, augment in [*cropped, *_AUGMENTED]:
        crop = {
            "area_range": (0.08, 1.0),
            "aspect_ratio_range": (3 / 4, 4 / 3),
            "flip": True,
            "method": method,
        }
        made, ok = images.train_images(
            group,
            ops=ops,
            info=_INFO,
            resolution=size,
            seed=_SEED,
            pixels="floor" if augment else "nearest",
            policy=augment and randaugment.policy_of(augment, size),
            **crop,
        )
        plain = tf.function(
            functools.partial(
                train_image, tf.constant(encoded), size, _SEED, augment=augment, **crop
            ),
            autograph=False,
        )
        for index in range(_GROUP):
            want = plain(group["index"][index])
            what = f"training image {index}, {method} to {size}, {augment}"
            yield what, _is_made(made, ok, index, want)


def train_image(
    encoded: tf.Tensor,
    resolution: int,
    seed: int,
    index: tf.Tensor,
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None,
    **crop: Any,
) -> tf.Tensor:
    """Make a training image as TensorFlow's own ops make it."""
    seeds = preprocess.image_seeds(seed, index)
    quantize = preprocess.to_uint8 if augment else preprocess.nearest_uint8
    image = preprocess.train_image(
        encoded, resolution, seeds[preprocess.CROP], quantize=quantize, **crop
    )
    return augment(image, seeds[preprocess.AUGMENT]) if augment else image


def _evaluation(ops: Any, encoded: bytes) -> Iterator[tuple[str, bool]]:
    group = _group(encoded, [0])
    for method, size, taken, pixels in itertools.product(
        preprocess.RESIZES,
        _RESOLUTIONS,
        (0.875, preprocess.SQUASH),
        ("float32", "uint8"),
    ):
        crop = preprocess.EvalCrop(method, taken, pixels)
        made, ok = images.eval_images(
            group, ops=ops, info=_INFO, resolution=size, crop=crop
        )
        want = preprocess.eval_image(tf.constant(encoded), size, crop)
        what = f"evaluation image, {method} of {taken} to {size}, {pixels}"
        yield what, _is_made(made, ok, 0, want)


def _is_made(made: images.Tensors, ok: tf.Tensor, row: int, want: tf.Tensor) -> bool:
    is_whole = bool(ok[row]) and int(made["label"][row]) == _LABEL
    return is_whole and _equal(made["image"][row], want)


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
