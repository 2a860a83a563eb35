"""Records that cannot be used: found, named, and either fatal or masked.

A TensorFlow graph cannot catch an error, but a dataset can ignore one. Doing so for one
image costs more than a tenth of decoding it, so a whole group is decoded under one
guard, which costs nothing that can be measured. Its records are numbered, so that those
which come through tell which have not.
"""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from input_pipeline import image_formats
from input_pipeline.chunks import UNCOUNTED, UNREADABLE, Tensors
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.errors import DataError
from input_pipeline.preprocess import is_too_large, png_shape
from input_pipeline.records import MISSING_LABEL, Fields, parse
from input_pipeline.stream import Records

POLICIES = ("stop", "skip")
PADDING_LABEL = -1  # of an image that must not count

_BY = "__by__"
_HEAD = "bad record: "
_TAIL = "repair or remove it, or train without it (on_bad_record: skip)"
_LIMIT = "bad records:"
_RAISE = "look at them, or raise max_bad_records"
_AUGMENTATION = re.compile(
    rf"passed to ([a-z]+){_BY}(\w+) transformation with iterator: \S+ "
    r"(.*?)(?:\n\t \[\[|\nTraceback |$)",
    re.DOTALL,
)
_NODES = re.compile(r"\{\{\w+ [^}]*\}\} ?")  # of TensorFlow's functions
_UNREADABLE = "the file is damaged or cut off here"


class Together(NamedTuple):
    """A way to decode a whole group at once what is common, and to leave what is rare.

    Attributes:
      decode: the group to {"image": [K, S, S, 3], "label": int32[K]}, and bool[K], of
        which records that is made; what it gives of others is dropped.
      augmentations: what is left to be done to its images, as in `decode_group`.
    """

    decode: Callable[[Tensors], tuple[Tensors, tf.Tensor]]
    augmentations: Mapping[str, Callable[[Tensors], Tensors]]


def decode_group(
    group: Tensors,
    decode: Callable[[Tensors], Tensors],
    info: DatasetInfo,
    records: Records,
    *,
    resolution: int,
    on_bad_record: str,
    pixels: str = "uint8",
    augmentations: Mapping[str, Callable[[Tensors], Tensors]] | None = None,
    decode_rare: Callable[[Tensors], Tensors] | None = None,
    together: Together | None = None,
) -> Tensors:
    """Turn K records into images and labels, whatever the records hold.

    Args:
      group: a batch of the stream's elements.
      decode: one element to {"image": [S, S, 3], "label": int32}, and what
        `augmentations` want; raises where the record is bad, and for no other reason.
      info: of the dataset, for the labels that it allows.
      records: of the split, for the names of the files.
      resolution: S.
      on_bad_record: "stop" raises an error that names the record; "skip" prints it and
        yields a black image with label PADDING_LABEL.
      pixels: type of the images.
      augmentations: what changes the images of sound records, in this order, by a name
        from `augmentation_name`. What they raise is no record's fault and ends the run.
      decode_rare: reads what `decode` reads and more; tried where that has failed, so
        that what is common pays nothing for it.
      together: what is tried before these.

    Returns:
      {"image": [K, S, S, 3], "label": int32[K]}.
    """
    blank = blank_image(resolution, pixels)
    size = tf.shape(group["position"])[0]
    decode = _traced_once(decode)  # what fails is tried again
    decode_any = _traced_once(decode_rare) if decode_rare else decode
    changes = {
        name: _traced_once(change) for name, change in (augmentations or {}).items()
    }

    def masked(element: Tensors) -> Tensors:
        _report(element, info, records, on_bad_record)
        return blank

    def retried(element: Tensors) -> Tensors:
        """Read what was left; mask a bad record, fail where an augmentation does."""
        alone = tf.data.Dataset.from_tensors(element)
        sound = alone.map(decode_any).ignore_errors(log_warning=False)
        for name, change in changes.items():
            sound = sound.map(change, name=name)
        sound = sound.map(lambda decoded: _named_as(blank, decoded))
        return sound.concatenate(alone.map(masked)).take(1).get_single_element()

    # What is decoded has so many rows of the group, of which those are sound.
    if together is None:
        steps = [decode, *changes.values()]
        rows, decoded = _guarded(tf.range(size), group, steps, blank)
        sound = rows
    else:
        rows = tf.range(size)
        decoded, is_made = together.decode(group)
        sound = tf.boolean_mask(rows, is_made)
        if together.augmentations:
            made = {**decoded, "index": group["index"]}
            made = {name: tf.gather(value, sound) for name, value in made.items()}
            steps = [*together.augmentations.values()]
            rows, decoded = _guarded(sound, made, steps, blank)
            sound = rows

    def with_blanks() -> Tensors:
        lost, _ = tf.raw_ops.ListDiff(x=tf.range(size), y=sound)
        bad = {name: tf.gather(value, lost) for name, value in group.items()}
        # One at a time: the first bad record is the one that an error names.
        replace = retried if changes or decode_rare or together else masked
        blanks = tf.data.Dataset.from_tensors(bad).unbatch().map(replace)
        blanks = blanks.batch(tf.int32.max).get_single_element()
        return tf.nest.map_structure(
            lambda *parts: tf.dynamic_stitch([rows, lost], parts), decoded, blanks
        )

    decoded = tf.cond(tf.size(sound) == size, lambda: decoded, with_blanks)
    shape = [group["position"].shape[0]]
    return {k: tf.ensure_shape(v, shape + v.shape[1:]) for k, v in decoded.items()}


def _guarded(
    numbers: tf.Tensor,
    elements: Tensors,
    steps: Iterable[Callable[[Tensors], Tensors]],
    blank: Tensors,
) -> tuple[tf.Tensor, Tensors]:
    """Take elements through steps; return numbers and results of those that pass."""

    def numbered(number: tf.Tensor, element: Tensors) -> tuple[tf.Tensor, Tensors]:
        for step in steps:
            element = step(element)
        return number, _named_as(blank, element)

    dataset = tf.data.Dataset.from_tensors((numbers, elements)).unbatch()
    sound = dataset.map(numbered).ignore_errors(log_warning=False)
    none = tf.nest.map_structure(
        lambda x: tf.zeros([0, *x.shape], x.dtype), (tf.constant(0), blank)
    )
    return _first(sound.batch(tf.int32.max), none)


def _traced_once(function: Callable[[Tensors], Tensors]) -> Callable:
    # Not the function itself: it may be a partial, whose settings would be tensors.
    return tf.function(lambda element: function(element), autograph=False)


def _named_as(blank: Tensors, decoded: Tensors) -> Tensors:
    return {name: decoded[name] for name in blank}


def augmentation_name(setting: str, function: Callable) -> str:
    """Return the name by which `explain` knows what failed: an identifier."""
    return f"{setting}{_BY}{re.sub('[^0-9A-Za-z_]+', '_', function_name(function))}"


def function_name(function: Callable) -> str:
    """Return what people call a function, or its type if it has no name."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)  # of gin and tf.function
    return getattr(function, "__name__", type(function).__name__)


def blank_image(resolution: int, pixels: str) -> Tensors:
    """Return what stands in for an image that there is not, black, of that type."""
    return {
        "image": tf.zeros([resolution, resolution, 3], pixels),
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

    def image() -> tf.Tensor:
        encoded = parse(serialized, names)["encoded"]
        kind = tf.where(tf.image.is_jpeg(encoded), "JPEG", "PNG")
        header = tf.strings.join(["its ", kind, " header is damaged or cut off"])
        return _attempt(lambda e: _image_fault(e, kind), encoded, header)

    # Only of what is read: libjpeg would write a line of its own, without a name.
    fault = tf.cond(fields == "", image, lambda: fields)
    fault = tf.where(serialized == UNREADABLE, _UNREADABLE, fault)
    more = "the file goes on behind its last record that dataset_info.json counts"
    return tf.where(serialized == UNCOUNTED, more, fault)


def _field_fault(
    example: Tensors, names: Fields, first_label: int, last_label: int
) -> tf.Tensor:
    """Say what is wrong with the fields; nothing if nothing is."""
    label, encoded = example["label"], example["encoded"]
    outside = f" is outside {first_label}..{last_label}"
    kind = _describe(encoded)
    checks = [
        (label == MISSING_LABEL, f"the field {names.label} is missing"),
        (
            (label < first_label) | (label > last_label),
            tf.strings.join(["its label ", tf.strings.as_string(label), outside]),
        ),
        (encoded == "", f"the field {names.image} is missing or empty"),
        (
            tf.reduce_all(kind != list(image_formats.IN_RECORDS)),
            tf.strings.join(["its image is ", kind, f": {image_formats.RECORDS_HOLD}"]),
        ),
    ]
    fault = tf.constant("")
    for wrong, text in reversed(checks):
        fault = tf.where(wrong, text, fault)
    return fault


def _describe(encoded: tf.Tensor) -> tf.Tensor:
    """Return what image_formats.describe does, or "of no kind that is known"."""
    head = tf.strings.substr(encoded, 0, image_formats.HEAD)
    # RE2 reads characters: a byte becomes the one of its number.
    text = tf.strings.unicode_transcode(head, "ISO-8859-1", "UTF-8")
    patterns = [
        f"(?s:({one.decode('latin-1')}).*)".encode() for one in image_formats.PATTERNS
    ]
    fits = tf.map_fn(
        lambda one: tf.strings.regex_full_match(text, one),
        tf.constant(patterns),
        fn_output_signature=tf.bool,
    )
    names = [*image_formats.PATTERNS.values(), "of no kind that is known"]
    return tf.gather(names, tf.argmax(tf.concat([fits, [True]], 0)))


def _image_fault(encoded: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Tell an image that is too large from one whose body does not decode."""
    size = tf.cond(
        kind == "JPEG", lambda: _jpeg_size(encoded), lambda: png_shape(encoded)
    )
    sides = tf.strings.reduce_join(tf.strings.as_string(size), separator=" x ")
    large = tf.strings.join(["its header claims ", sides, " pixels, too many to load"])
    broken = tf.strings.join(["its ", kind, " data is damaged or cut off"])
    return tf.where(is_too_large(size), large, broken)


def _jpeg_size(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)


def explain(error: Exception) -> str | None:
    """Return one line for people about an error that reading data raised, or None.

    Args:
      error: what the iterator, or a function of this package, raised.
    """
    if isinstance(error, DataError):
        return str(error)
    failed = _AUGMENTATION.search(str(error))
    if failed:
        setting, function, why = failed.groups()
        why = _unescaped(" ".join(_NODES.sub("", why).split()))
        return (
            f"{setting} ({function}) failed on an image: {why}; mend this function or "
            "its settings, the record is sound"
        )
    pattern = f"{_HEAD}.*?, record .*?{re.escape(_TAIL)}"
    pattern += f"|{_LIMIT}.*?{re.escape(_RAISE)}"
    found = re.search(pattern, str(error), re.DOTALL)
    if not found:
        return None
    return _unescaped(found[0])


def _unescaped(text: str) -> str:
    """Undo what TensorFlow's message does to quotes, in paths and in other texts."""
    return re.sub(r"\\(['\"\\])", r"\1", text)
