"""Photos the right way up, in the graph: what `exif` reads, by TensorFlow's ops.

A file that a person hands in is seen upright; a record is taken as it is stored. So
this stands in front of a network that is handed files, and in no training.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from input_pipeline import preprocess
from input_pipeline.image_formats import PNG
from input_pipeline.images import exif

# What makes stored pixels upright: rows or columns the other way round, and then, of
# what lies on its side, rows in place of columns.
_ROWS, _COLUMNS, _ON_THEIR_SIDE = (3, 4, 6, 7), (2, 3, 7, 8), exif.ON_THEIR_SIDE
_HEAD = 10  # bytes of a part of a file that tell what it is
_ENTRY = 12  # bytes of an entry in a directory
_PNG_CHUNK = b"eXIf"
# From the first bytes of a part, and where it lies, to the begin and the end of what is
# EXIF in it, zeros if nothing is, and to the next part, -1 if there is none.
_Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def cropped_upright(
    encoded: tf.Tensor, window_of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Decode a part of an image that is turned by its EXIF orientation.

    Args:
      encoded: as in `preprocess.cropped`.
      window_of: likewise; of the upright image.

    Returns:
      uint8[h, w, 3], upright.

    Raises:
      InvalidArgumentError: as `preprocess.cropped`. EXIF that is damaged says nothing.
    """
    turn = orientation(encoded)
    window = functools.partial(_stored_window, turn=turn, window_of=window_of)
    return upright(preprocess.cropped(encoded, window), turn)


def upright(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turn stored pixels, [H, W, C] of any type, as an orientation wants it.

    Args:
      pixels: as they are stored.
      turn: int32 scalar, 1 to 8.

    Returns:
      [H, W, C]; [W, H, C] if `turn` is one of exif.ON_THEIR_SIDE.
    """

    def turned() -> tf.Tensor:
        dims = tf.stack([_is_in(turn, _ROWS), _is_in(turn, _COLUMNS), False])
        flipped = tf.raw_ops.Reverse(tensor=pixels, dims=dims)
        perm = tf.where(_is_in(turn, _ON_THEIR_SIDE), [1, 0, 2], [0, 1, 2])
        return tf.raw_ops.Transpose(x=flipped, perm=perm)

    return tf.cond(turn == exif.UPRIGHT, lambda: pixels, turned)


def _stored_window(
    shape: tf.Tensor,
    turn: tf.Tensor,
    window_of: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Return where a window of the upright image lies in the stored one, int32[4]."""
    on_its_side = _is_in(turn, _ON_THEIR_SIDE)
    window = window_of(tf.where(on_its_side, tf.gather(shape, [1, 0, 2]), shape))
    window = tf.where(on_its_side, tf.gather(window, [1, 0, 3, 2]), window)
    begin, size = tf.split(window, 2)
    other_way = tf.stack([_is_in(turn, _ROWS), _is_in(turn, _COLUMNS)])
    begin = tf.where(other_way, shape[:2] - begin - size, begin)
    return tf.concat([begin, size], axis=0)


def _is_in(turn: tf.Tensor, orientations: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(turn == tf.constant(orientations))


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return what `exif.orientation` does of a JPEG or a PNG, int32 from 1 to 8.

    Args:
      encoded: string scalar, any bytes; 1 is of all other files.
    """
    is_jpeg, is_png = tf.image.is_jpeg(encoded), _begins(encoded, 0, PNG)

    def read() -> tf.Tensor:
        begin, end = tf.cond(
            is_jpeg,
            lambda: _find(encoded, 2, 4, _step_in_jpeg),
            lambda: _find(encoded, len(PNG), 8, _step_in_png),
        )
        return _of(tf.strings.substr(encoded, begin, tf.maximum(end - begin, 0)))

    # Most images have none, and to find that out part by part takes far longer.
    name = tf.where(is_jpeg, exif.MAGIC, _PNG_CHUNK)
    may_be = (is_jpeg | is_png) & _holds(encoded, name)
    return tf.cond(may_be, read, lambda: tf.constant(exif.UPRIGHT))


def _holds(encoded: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    pieces = tf.raw_ops.StringSplitV2(input=encoded[None], sep=part, maxsplit=1)
    return tf.size(pieces.values) > 1


def _find(
    encoded: tf.Tensor, first: int, least: int, step: _Step
) -> tuple[tf.Tensor, tf.Tensor]:
    """Follow the parts of a file; return begin and end of its first EXIF, int64."""
    size = tf.strings.length(encoded)

    def goes_on(place, parts, begin, _):
        within = (place >= 0) & (place + least <= tf.cast(size, tf.int64))
        return (begin == 0) & within & (parts < exif.MOST_PARTS)

    def follow(place, parts, *_):
        begin, end, place = step(_bytes(encoded, place, _HEAD), place)
        return place, parts + 1, begin, end

    zero = tf.constant(0, tf.int64)
    start = (zero + first, tf.constant(0), zero, zero)
    _, _, begin, end = tf.while_loop(goes_on, follow, start)
    return begin, end


def _step_in_jpeg(
    head: tf.Tensor, place: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    marker = head[1]
    is_exif = (marker == exif.APP1) & tf.reduce_all(head[4:] == list(exif.MAGIC))
    end = place + 2 + 256 * head[2] + head[3]
    following = tf.where(marker == 0xFF, place + 1, end)  # a byte to fill up
    stops = (head[0] != 0xFF) | (marker == exif.SCAN) | (marker == exif.END)
    is_exif &= head[0] == 0xFF
    zero = tf.zeros_like(place)
    return (
        tf.where(is_exif, place + 4, zero),
        tf.where(is_exif, end, zero),
        tf.where(stops, zero - 1, following),
    )


def _step_in_png(
    head: tf.Tensor, place: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    is_exif = tf.reduce_all(head[4:8] == list(_PNG_CHUNK))
    begin = place + 8
    end = begin + _number(head[:4], is_little=False)
    zero = tf.zeros_like(place)
    return tf.where(is_exif, begin, zero), tf.where(is_exif, end, zero), end + 4


def _of(block: tf.Tensor) -> tf.Tensor:
    """Return what the first directory of a block of EXIF says; 1 if it is damaged."""
    prefix = tf.where(_begins(block, 0, exif.MAGIC), len(exif.MAGIC), 0)
    tiff = tf.strings.substr(block, prefix, tf.strings.length(block))
    head = _bytes(tiff, tf.constant(0, tf.int64), 8)
    is_little = _begins(tiff, 0, b"II")
    is_tiff = (is_little | _begins(tiff, 0, b"MM")) & (tf.strings.length(tiff) >= 8)
    number = functools.partial(_number, is_little=is_little)
    place = number(head[4:])
    length = tf.cast(tf.strings.length(tiff), tf.int64)
    directory = tf.strings.substr(
        tiff, tf.minimum(place, length), 2 + exif.MOST_TAGS * _ENTRY
    )
    there = tf.cast((tf.strings.length(directory) - 2) // _ENTRY, tf.int64)
    told = number(_bytes(directory, tf.constant(0, tf.int64), 2))
    count = tf.maximum(tf.minimum(told, there), 0)
    entries = tf.strings.substr(
        directory,
        tf.cast(tf.minimum(2, tf.strings.length(directory)), tf.int64),
        count * _ENTRY,
    )
    table = tf.reshape(tf.io.decode_raw(entries, tf.uint8), [-1, _ENTRY])
    # One more, of zeros: there the search ends that finds nothing.
    table = tf.cast(tf.pad(table, [[0, 1], [0, 0]]), tf.int64)
    is_it = number(table[:, :2]) == exif.TAG
    row = table[tf.argmax(tf.concat([is_it[:-1], [True]], axis=0))]
    kind = number(row[2:4])
    value = tf.where(kind == exif.SHORT, number(row[8:10]), 0)
    value = tf.where(kind == exif.LONG, number(row[8:]), value)
    sound = is_tiff & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(sound, value, exif.UPRIGHT), tf.int32)


def _number(digits: tf.Tensor, is_little: bool | tf.Tensor) -> tf.Tensor:
    """Make bytes, int64[..., n], into unsigned numbers, int64[...]."""
    weights = [256**i for i in range(digits.shape[-1] or 0)]
    factors = tf.where(is_little, weights, weights[::-1])
    return tf.reduce_sum(digits * tf.cast(factors, tf.int64), axis=-1)


def _bytes(encoded: tf.Tensor, place: tf.Tensor, count: int) -> tf.Tensor:
    """Return so many bytes as int64[count], zeros behind the end."""
    end = tf.cast(tf.strings.length(encoded), tf.int64)
    part = tf.strings.substr(encoded, tf.minimum(place, end), count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)


def _begins(encoded: tf.Tensor, place: int, with_: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, place, len(with_)) == with_
