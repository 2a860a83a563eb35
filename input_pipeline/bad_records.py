"""Records that cannot be used: found, named, and either fatal or masked.

A TensorFlow graph cannot catch an error, but a dataset can ignore one. Doing so for one
image costs more than a tenth of decoding it, so a whole group is decoded under one
guard, which costs nothing that can be measured. Its records are numbered, so that those
which come through tell which have not.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from common.errors import one_line
from input_pipeline.errors import DataError
from input_pipeline.preprocess import MAX_PIXELS
from input_pipeline.records import MISSING_LABEL, DatasetInfo, Fields, parse
from input_pipeline.stream import UNCOUNTED, UNREADABLE, Records, Tensors

POLICIES = ("stop", "skip")
PADDING_LABEL = -1  # of an image that must not count

_HEAD = "bad record: "
_TAIL = "repair or remove it, or train without it (on_bad_record: skip)"
_LIMIT = "bad records:"
_RAISE = "look at them, or raise max_bad_records"
_UNREADABLE = "the file is damaged or cut off here, or may not be read"


def decode_group(
    group: Tensors,
    decode: Callable[[Tensors], Tensors],
    info: DatasetInfo,
    records: Records,
    *,
    resolution: int,
    on_bad_record: str,
) -> Tensors:
    """Turn K records into images and labels, whatever the records hold.

    Args:
      group: a batch of the stream's elements.
      decode: one element to {"image": uint8[S, S, 3], "label": int32}; raises where it
        has to.
      info: of the dataset, for the labels that it allows.
      records: of the split, for the names of the files.
      resolution: S.
      on_bad_record: "stop" raises an error that names the record; "skip" prints it and
        yields a black image with label PADDING_LABEL.

    Returns:
      {"image": uint8[K, S, S, 3], "label": int32[K]}.
    """
    blank = blank_image(resolution)
    size = tf.shape(group["position"])[0]

    def numbered(number: tf.Tensor, element: Tensors) -> tuple[tf.Tensor, Tensors]:
        return number, decode(element)

    def masked(element: Tensors) -> Tensors:
        _report(element, info, records, on_bad_record)
        return blank

    elements = tf.data.Dataset.from_tensors((tf.range(size), group)).unbatch()
    sound = elements.map(numbered).ignore_errors(log_warning=False)
    none = tf.nest.map_structure(
        lambda x: tf.zeros([0, *x.shape], x.dtype), (tf.constant(0), blank)
    )
    numbers, decoded = _first(sound.batch(tf.int32.max), none)

    def with_blanks() -> Tensors:
        lost, _ = tf.raw_ops.ListDiff(x=tf.range(size), y=numbers)
        bad = {name: tf.gather(value, lost) for name, value in group.items()}
        # One at a time: the first bad record is the one that an error names.
        blanks = tf.data.Dataset.from_tensors(bad).unbatch().map(masked)
        blanks = blanks.batch(tf.int32.max).get_single_element()
        return tf.nest.map_structure(
            lambda *parts: tf.dynamic_stitch([lost, numbers], parts), blanks, decoded
        )

    decoded = tf.cond(tf.size(numbers) == size, lambda: decoded, with_blanks)
    shape = [group["position"].shape[0]]
    return {k: tf.ensure_shape(v, shape + v.shape[1:]) for k, v in decoded.items()}


def blank_image(resolution: int) -> Tensors:
    """Return what stands in for an image that there is not, black."""
    return {
        "image": tf.zeros([resolution, resolution, 3], tf.uint8),
        "label": tf.constant(PADDING_LABEL),
    }


def limited(
    groups: tf.data.Dataset, max_bad_records: int, records_per_pass: int
) -> tf.data.Dataset:
    """Pass groups on until a pass over the data has masked more than so many."""
    limit = f"{_LIMIT} more than {max_bad_records} records could not be used; {_RAISE}"

    @tf.autograph.experimental.do_not_convert
    def count(state: tf.Tensor, group: Tensors) -> tuple[tf.Tensor, Tensors]:
        state *= tf.cast(state[0] < records_per_pass, tf.int64)  # a new pass
        bad = tf.math.count_nonzero(group["label"] == PADDING_LABEL)
        state += tf.stack([tf.size(group["label"], tf.int64), bad])
        # A group may hold several passes over a small split.
        allowed = max_bad_records * tf.maximum(state[0], records_per_pass)
        within = tf.debugging.Assert(state[1] * records_per_pass <= allowed, [limit])
        with tf.control_dependencies([within]):
            return state, tf.nest.map_structure(tf.identity, group)

    return groups.scan(tf.zeros([2], tf.int64), count)


def _first(dataset: tf.data.Dataset, fallback: Any) -> Any:
    """Return the dataset's first element; the fallback if it has none."""
    fallback = tf.data.Dataset.from_tensors(fallback)
    return dataset.concatenate(fallback).take(1).get_single_element()


def _attempt(function: Callable[[Any], Any], argument: Any, fallback: Any) -> Any:
    """Return function(argument), or the fallback where that raises."""
    guarded = tf.data.Dataset.from_tensors(argument).map(function)
    return _first(guarded.ignore_errors(log_warning=False), fallback)


def _report(
    element: Tensors, info: DatasetInfo, records: Records, on_bad_record: str
) -> None:
    """Raise or print one line that names the record and its fault."""
    file, number = records.location(element["position"])
    fault = _diagnose(element["serialized"], info)
    where = [file, ", record ", tf.strings.as_string(number), ": "]
    line = tf.strings.join([_HEAD, *where, fault, "; "])
    if on_bad_record == "stop":
        tf.debugging.Assert(False, [tf.strings.join([line, _TAIL])])
    else:
        tf.print(tf.strings.join([line, "masked"]), output_stream=sys.stderr)


def _diagnose(serialized: tf.Tensor, info: DatasetInfo) -> tf.Tensor:
    """Say what is wrong with a record that could not be decoded."""
    classes, names = len(info.label_names), info.fields
    allowed = info.label_offset, info.label_offset + classes - 1
    fields = _attempt(
        lambda s: _field_fault(parse(s, names), names, *allowed),
        serialized,
        tf.constant(
            f"it is not a tf.train.Example with the fields {names.image} and "
            f"{names.label}"
        ),
    )
    image = _attempt(
        lambda s: _image_fault(parse(s, names)["encoded"]),
        serialized,
        tf.constant("its JPEG header is damaged or cut off"),
    )
    fault = tf.where(fields == "", image, fields)
    fault = tf.where(serialized == UNREADABLE, _UNREADABLE, fault)
    more = "the file goes on behind its last record that dataset_info.json counts"
    return tf.where(serialized == UNCOUNTED, more, fault)


def _field_fault(
    example: Tensors, names: Fields, first_label: int, last_label: int
) -> tf.Tensor:
    """Say what is wrong with the fields; nothing if nothing is."""
    label, encoded = example["label"], example["encoded"]
    outside = f" is outside {first_label}..{last_label}"
    checks = [
        (label == MISSING_LABEL, f"the field {names.label} is missing"),
        (
            (label < first_label) | (label > last_label),
            tf.strings.join(["its label ", tf.strings.as_string(label), outside]),
        ),
        (encoded == "", f"the field {names.image} is missing or empty"),
        (~tf.image.is_jpeg(encoded), "its image is not a JPEG"),
    ]
    fault = tf.constant("")
    for wrong, text in reversed(checks):
        fault = tf.where(wrong, text, fault)
    return fault


def _image_fault(encoded: tf.Tensor) -> tf.Tensor:
    """Tell a JPEG that is too large from one whose body does not decode."""
    size = tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)
    sides = tf.strings.reduce_join(tf.strings.as_string(size), separator=" x ")
    large = tf.strings.join(["its header claims ", sides, " pixels, too many to load"])
    broken = tf.constant("its JPEG data is damaged or cut off")
    return tf.where(tf.reduce_prod(size) > MAX_PIXELS, large, broken)


def explain(error: Exception) -> str | None:
    """Return one line for people about an error that reading data raised, or None.

    Args:
      error: what the iterator, or a function of this package, raised.
    """
    if isinstance(error, DataError):
        return str(error)
    pattern = f"{_HEAD}(.*?), record .*?{re.escape(_TAIL)}"
    pattern += f"|{_LIMIT}.*?{re.escape(_RAISE)}"
    found = re.search(pattern, str(error), re.DOTALL)
    if not found:
        return None
    # The error message escapes quotes in paths.
    line, path = (re.sub(r"\\(['\"\\])", r"\1", x or "") for x in found.group(0, 1))
    if _UNREADABLE in line:
        line = line.replace(_UNREADABLE, _why_unreadable(path))
    return line


def _why_unreadable(path: str) -> str:
    """Open the file again to tell damage from what the file system says."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.read(1)
    except tf.errors.OpError as error:
        return f"the file cannot be opened ({one_line(error)})"
    return "the file is damaged or cut off here"
