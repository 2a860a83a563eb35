"""Records that cannot be used: found, named, and either fatal or masked.

A TensorFlow graph cannot catch an error, but a dataset can ignore one. Doing so for one
image costs more than a tenth of decoding it, so a whole group is decoded under one
guard, and only a group that lost a record is decoded again, each record under its own.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.preprocess import MAX_PIXELS
from input_pipeline.records import (
    MISSING_LABEL,
    DatasetInfo,
    count_records,
    load_info,
    parse,
    shard_path,
)

POLICIES = ("stop", "skip")
MASKED = -1  # the label of an image that must not count

_HEAD = "bad record: "
_TAIL = "repair or remove it, or train without it (on_bad_record: skip)"

Tensors = dict[str, Any]


def load_group(
    group: Tensors,
    load: Callable[[Tensors], Tensors],
    info: DatasetInfo,
    *,
    resolution: int,
    on_bad_record: str,
) -> Tensors:
    """Turns up to K records into images and labels, whatever the records hold.

    Args:
      group: a batch of the stream's elements.
      load: one element to {"image": uint8[S, S, 3], "label": int32}; raises if it must.
      info: of the dataset, for the labels that it allows.
      resolution: S.
      on_bad_record: "stop" raises an error that names the record; "skip" prints it and
        yields a black image with label MASKED.

    Returns:
      {"image": uint8[K, S, S, 3], "label": int32[K], "index": int64[K]}.
    """
    blank = {
        "image": tf.zeros([resolution, resolution, 3], tf.uint8),
        "label": tf.constant(MASKED),
    }

    def load_or_report(element: Tensors) -> Tensors:
        loaded = _attempt(load, element, blank)
        tf.cond(
            loaded["label"] == MASKED,
            lambda: _report(element, info, on_bad_record),
            lambda: tf.constant(True),
        )
        return loaded

    def one_by_one() -> Tensors:
        signature = tf.nest.map_structure(tf.TensorSpec.from_tensor, blank)
        # One at a time: the first bad record is the one that an error names.
        return tf.map_fn(
            load_or_report,
            group,
            fn_output_signature=signature,
            parallel_iterations=1,
        )

    size = tf.shape(group["index"])[0]
    together = tf.data.Dataset.from_tensors(group).unbatch().map(load)
    together = together.ignore_errors(log_warning=False).batch(tf.int32.max)
    none = tf.nest.map_structure(lambda x: tf.zeros([0, *x.shape], x.dtype), blank)
    loaded = _first(together, none)
    whole = tf.equal(tf.shape(loaded["label"])[0], size)
    loaded = tf.cond(whole, lambda: loaded, one_by_one)
    return {**loaded, "index": group["index"]}


def _first(dataset: tf.data.Dataset, fallback: Any) -> Any:
    """The dataset's first element; the fallback if it has none."""
    fallback = tf.data.Dataset.from_tensors(fallback)
    return dataset.concatenate(fallback).take(1).get_single_element()


def _attempt(function: Callable[[Any], Any], argument: Any, fallback: Any) -> Any:
    """function(argument), or the fallback where that raises."""
    guarded = tf.data.Dataset.from_tensors(argument).map(function)
    return _first(guarded.ignore_errors(log_warning=False), fallback)


def _report(element: Tensors, info: DatasetInfo, on_bad_record: str) -> tf.Tensor:
    """Raises or prints one line that names the record and its fault."""
    place = [element["file"], ", record ", tf.strings.as_string(element["record"])]
    fault = _diagnose(element["serialized"], info)
    line = tf.strings.join([_HEAD, *place, ": ", fault, "; "])
    if on_bad_record == "stop":
        tf.debugging.Assert(False, [tf.strings.join([line, _TAIL])])
    else:
        tf.print(tf.strings.join([line, "masked"]), output_stream=sys.stderr)
    return tf.constant(True)


def _diagnose(serialized: tf.Tensor, info: DatasetInfo) -> tf.Tensor:
    """Says what is wrong with a record that did not load."""
    last_label = info.label_offset + len(info.label_names) - 1
    fields = _attempt(
        lambda s: _field_fault(parse(s), info.label_offset, last_label),
        serialized,
        tf.constant("it is not a tf.train.Example with ImageNet's fields"),
    )
    image = _attempt(
        lambda s: _image_fault(parse(s)["encoded"]),
        serialized,
        tf.constant("its JPEG header is damaged or cut off"),
    )
    return tf.where(fields == "", image, fields)


def _field_fault(example: Tensors, first_label: int, last_label: int) -> tf.Tensor:
    """What is wrong with the fields; empty if nothing is."""
    label, encoded = example["label"], example["encoded"]
    outside = f" is outside {first_label}..{last_label}"
    checks = [
        (label == MISSING_LABEL, "the field image/class/label is missing"),
        (
            (label < first_label) | (label > last_label),
            tf.strings.join(["its label ", tf.strings.as_string(label), outside]),
        ),
        (encoded == "", "the field image/encoded is missing or empty"),
        (~tf.image.is_jpeg(encoded), "its image is not a JPEG"),
    ]
    fault = tf.constant("")
    for wrong, text in reversed(checks):
        fault = tf.where(wrong, text, fault)
    return fault


def _image_fault(encoded: tf.Tensor) -> tf.Tensor:
    """Tells a JPEG that is too large from one whose body does not decode."""
    size = tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)
    sides = tf.strings.reduce_join(tf.strings.as_string(size), separator=" x ")
    large = tf.strings.join(["its header claims ", sides, " pixels, too many to load"])
    broken = tf.constant("its JPEG data is damaged or cut off")
    return tf.where(tf.reduce_prod(size) > MAX_PIXELS, large, broken)


def explain(
    error: Exception, *, data_dir: str | None = None, split: str | None = None
) -> str | None:
    """One line for people about an error that reading data raised, or None.

    Args:
      error: what the iterator, or a function of this package, raised.
      data_dir: where the data is; with `split`, a broken TFRecord file is searched for,
        which reads the whole split.
      split: the split that was read.
    """
    if isinstance(error, DataError):
        return str(error)
    found = re.search(f"{_HEAD}.*?{re.escape(_TAIL)}", str(error), re.DOTALL)
    if found:
        # The error message escapes quotes in paths.
        return re.sub(r"\\(['\"\\])", r"\1", found.group())
    broken_file = (
        tf.errors.DataLossError,
        tf.errors.FailedPreconditionError,
        tf.errors.NotFoundError,
    )
    if isinstance(error, broken_file) and data_dir is not None and split is not None:
        return _broken_shard(data_dir, split)
    return None


def _broken_shard(data_dir: str, split: str) -> str | None:
    """Reads a split's files until one is missing, damaged or of another length."""
    try:
        for shard in load_info(data_dir).split(split).shards:
            path = shard_path(data_dir, shard)
            count = count_records(path)
            if count != shard.records:
                return (
                    f"{path} holds {count} records where dataset_info.json counts "
                    f"{shard.records}: copy or prepare it again"
                )
    except DataError as error:
        return str(error)
    return None
