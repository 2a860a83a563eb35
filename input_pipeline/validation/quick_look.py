"""A first look at a few records together, which for most says all.

To ask TensorFlow record by record and step by step takes, but for the decoding, twice
as long. Where the look does not find all of them sound, nothing is known of any: then
each is inspected alone, and what is wrong is named.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from input_pipeline import jpeg_warnings
from input_pipeline.preprocess import jpeg_shape
from input_pipeline.records import Fields, parse

TOGETHER = 8  # records
_MOST_PAUSES = 15
_GREY, _COLOURED = 1, 3  # components of a JPEG that need no other way to be decoded


class Sound(NamedTuple):
    """What training reads of a record, whose image is a JPEG that is whole."""

    encoded: bytes
    label: int
    height: int
    width: int
    components: int


class QuickLook:
    """Looks at groups of TOGETHER records; seldom where it has found nothing sound."""

    def __init__(self, fields: Fields, *, decode: bool):
        self._fields, self._decode = fields, decode
        self._pause = self._left = 0  # groups

    def __call__(self, serialized: tf.Tensor) -> list[Sound] | None:
        """Return what there is in each record; None if not all are sound, or perhaps.

        Only in a process in which no other thread writes to standard error.

        Args:
          serialized: string[TOGETHER].
        """
        if self._left:
            self._left -= 1
            return None
        found = self._found(serialized)
        self._pause = 0 if found else min(2 * self._pause + 1, _MOST_PAUSES)
        self._left = self._pause
        return found

    def _found(self, serialized: tf.Tensor) -> list[Sound] | None:
        look = _graph(self._fields, self._decode)
        try:
            said, found = jpeg_warnings.listen(lambda: look(serialized))
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            return None
        if said:
            return None
        images, labels, shapes = found
        return [
            Sound(image.numpy(), label, *shape[:3])
            for image, label, shape in zip(
                images, labels.numpy().tolist(), shapes.numpy().tolist(), strict=True
            )
        ]


@functools.cache
def _graph(fields: Fields, decode: bool) -> Callable[[tf.Tensor], tuple]:
    """Return the graph of a look: images, labels and shapes, as `_look_at` has them."""

    def look(serialized: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        found: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]] = []
        for one in tf.unstack(serialized):
            # One behind the other: a progressive JPEG takes many times its pixels.
            with tf.control_dependencies(found[-1][-1:] if found else []):
                found.append(_look_at(one, fields, decode))
        images, labels, shapes = zip(*found, strict=True)
        return list(images), tf.stack(labels), tf.stack(shapes)

    traced = tf.function(look, autograph=False)
    return traced.get_concrete_function(tf.TensorSpec([TOGETHER], tf.string))


def _look_at(
    serialized: tf.Tensor, fields: Fields, decode: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return image, label, and int32: height, width, components; see `_decoded`."""
    example = parse(serialized, fields, image_required=True)
    encoded = example["encoded"]
    shape = jpeg_shape(encoded)
    if decode:
        shape = tf.concat([shape, _decoded(encoded, shape)], axis=0)
    return encoded, example["label"], shape


def _decoded(encoded: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG as `jpeg_warnings.silent` does; return the shape of what it made.

    That is of no use, but what is of none is not made by a graph.
    """
    is_common = tf.reduce_any(shape[2] == [_GREY, _COLOURED])
    common = tf.raw_ops.Assert(condition=is_common, data=["CMYK"])
    with tf.control_dependencies([common]):
        contents = tf.identity(encoded)
    return tf.shape(tf.io.decode_jpeg(contents, channels=1, ratio=8))
