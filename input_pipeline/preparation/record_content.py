"""What is in the TFRecords of others: their fields, or what they are instead."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import tensorflow as tf

from common import storage_errors
from common.console import count
from input_pipeline import image_formats
from input_pipeline.errors import DataError
from input_pipeline.records import IMAGENET, Fields

Features = Mapping[str, Any]  # tf.train.Feature by name

_PEEKED = 16  # records
_IMAGE_BYTES = 50  # an image has more: text may begin as one does
_TEXT_BYTES = 200  # of a class's name, or whatever text stands for a label

# What common fields are called. Where there is ImageNet's, it is the one.
_IMAGES = (
    *(IMAGENET.image, "image", "image_raw", "image_bytes", "image_data", "image/data"),
    *("encoded", "encoded_image", "image_encoded", "jpeg", "jpg", "img", "img_raw"),
)
_LABELS = (
    *(IMAGENET.label, "label", "labels", "class", "class_id", "class_label", "target"),
    *("label_id", "label_idx", "class_index", "image/label", "category_id", "y"),
)
_FILENAMES = (
    *(IMAGENET.filename, "file_name", "filename", "image_name", "image_id", "id"),
    *("image/id", "image/file_name", "path"),
)

_FILE_FORMATS = {
    b"\x1f\x8b": "compressed by gzip: decompress it, gzip -dc FILE > NEW",
    **dict.fromkeys(
        (b"x\x01", b"x^", b"x\x9c", b"x\xda"),
        "compressed by zlib: decompress it, python -c 'import sys, zlib; "
        "sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))' "
        "< FILE > NEW",
    ),
    b"BZh": "compressed by bzip2: decompress it, bzip2 -dc FILE > NEW",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: decompress it, zstd -dc FILE > NEW",
    b"PK\3\4": "a zip file: unzip it",
    b"version https://git-lfs": "what Git LFS leaves in place of a file: git lfs pull",
    b"\x83\xaf\x70\xd1": "ArrayRecord or Riegeli: write it again as TFRecords, with "
    "TensorFlow Datasets by tfds build --file_format=tfrecord",
    b"PAR1": "Parquet: write it again as TFRecords",
    b"ARROW1": "Arrow: write it again as TFRecords",
    b"\x89HDF": "HDF5: write it again as TFRecords",
    b"<": "a page of the web or XML, a failed download perhaps: download it again",
    b"{": "JSON: write it again as TFRecords",
}
_REWRITE = (
    "write the records again with one int64, or the images into folders named after "
    "their classes for python -m input_pipeline.prepare imagefolder"
)
_FOLDERS = (
    "write the images into folders named after their classes, of which python -m "
    "input_pipeline.prepare imagefolder makes JPEGs"
)


class NoLabelError(DataError):
    """A file whose records have no field that is known as the label."""


class Record(NamedTuple):
    """What is read of a record.

    Attributes:
      label: of its image.
      text: image/class/text, or "".
      synset: image/class/synset, or "".
      image: what it is if it is neither a JPEG nor a PNG, as "a WebP".
    """

    label: int
    text: str
    synset: str
    image: str | None


def features_of(content: bytes, where: str) -> Features:
    """Return the features of an Example; a DataError that says what else it is."""
    try:
        features = tf.train.Example.FromString(content).features.feature
    except Exception:  # protobuf's DecodeError, which TensorFlow does not re-export
        image = image_formats.describe(content)
        what = f", but {image}" if image else ""
        raise DataError(
            f"{where} is not a tf.train.Example{what}: write the file again"
        ) from None
    if not features:
        raise DataError(f"{where} {_without_features(content)}: write the file again")
    return features


def _without_features(content: bytes) -> str:
    if not content:
        return "is empty"
    if tf.train.SequenceExample.FromString(content).feature_lists.feature_list:
        return "is a tf.train.SequenceExample, not a tf.train.Example"
    return "is not a tf.train.Example, but another protocol buffer or an empty one"


def record(content: bytes, fields: Fields, where: str) -> Record:
    """Read what training needs of a record; a DataError where it is not there."""
    features = features_of(content, where)
    label = _label(features, fields.label, where)
    image = _image(features, fields.image, where)
    text, synset = (
        b"".join(_values(features, f"image/class/{name}", "bytes_list")[:1])
        for name in ("text", "synset")
    )
    return Record(
        label,
        text.decode("utf-8", "backslashreplace"),
        synset.decode("utf-8", "backslashreplace"),
        _what_is_no_jpeg(image),
    )


def _what_is_no_jpeg(image: bytes) -> str | None:
    if image_formats.is_in_records(image):
        return None
    return image_formats.describe(image) or "no image file"


def _values(features: Features, name: str, kind: str) -> Sequence[Any]:
    return getattr(features[name], kind).value if name in features else ()


def _label(features: Features, name: str, where: str) -> int:
    labels = _values(features, name, "int64_list")
    if len(labels) == 1:
        return labels[0]
    if name not in features or features[name].WhichOneof("kind") is None:
        raise DataError(
            f"{where}: the field {name} is missing (one int64); it has the fields "
            f"{named(features)}: {_REWRITE}"
        )
    raise DataError(
        f"{where}: the field {name} holds {describe(features[name])}, where training "
        f"takes one int64: {_REWRITE}"
    )


def _image(features: Features, name: str, where: str) -> bytes:
    images = _values(features, name, "bytes_list")
    if len(images) == 1 and images[0]:
        return images[0]
    if not any(images) and _kind(features, name) in (None, "bytes_list"):
        raise DataError(
            f"{where}: the field {name} is missing or empty; it has the fields "
            f"{named(features)}: write the file again"
        )
    raise DataError(
        f"{where}: the field {name} holds {describe(features[name])}, where training "
        f"takes one JPEG: {_FOLDERS}"
    )


def _kind(features: Features, name: str) -> str | None:
    return features[name].WhichOneof("kind") if name in features else None


def named(features: Features) -> str:
    """Return the names of the fields that hold something."""
    names = sorted(name for name in features if _kind(features, name))
    return ", ".join(names[:12]) + ", ..." * (len(names) > 12) or "none"


def describe(feature: Any) -> str:
    """Say what a feature holds, as "the text 'cat'" or "3 int64s"."""
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    if not values:
        return "nothing"
    if kind == "bytes_list":
        return _describe_bytes(values)
    noun = "int64" if kind == "int64_list" else "float"
    if len(values) > 1 and sorted(values)[-2:] == [0, 1]:
        return f"{len(values)} {noun}s, of which one is 1 (one-hot)"
    if len(values) == 1:
        return f"{'an' if noun == 'int64' else 'a'} {noun} ({values[0]:g})"
    more = " ..." * (len(values) > 3)
    return f"{len(values)} {noun}s ({', '.join(f'{v:g}' for v in values[:3])}{more})"


def _describe_bytes(values: list[bytes]) -> str:
    if len(values) > 1:
        return f"{len(values)} values of bytes"
    value = values[0]
    text = value[:_TEXT_BYTES].decode("utf-8", "replace")
    if len(value) < _TEXT_BYTES and text.isprintable() and "\ufffd" not in text:
        return f"the text {text!r}"
    if what := image_formats.describe(value):
        return what
    return f"{count(len(value), 'byte')} that are no number, text or image"


def file_format(path: str) -> str | None:
    """Return what a file is that is no TFRecord, and the way in; None if not known."""
    with tf.io.gfile.GFile(path, "rb") as file:
        head: bytes = file.read(512)
    if head[257:262] == b"ustar":
        return "a tar archive, of WebDataset perhaps: unpack it"
    formats = _FILE_FORMATS.items()
    known = next((what for start, what in formats if head.startswith(start)), None)
    image = image_formats.describe(head)
    return known or (f"{image}: {_FOLDERS}" if image else None)


def count_records(path: str) -> int:
    """Count the records of a file by their lengths alone."""
    size, offset, found = tf.io.gfile.stat(path).length, 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while offset < size:
            file.seek(offset)
            offset += int.from_bytes(file.read(8), "little") + 16
            found += 1
    return found


def peek(path: str) -> list[Features]:
    """Return the features of the first records.

    Raises:
      DataError: it is no TFRecord, is empty, or holds something else than Examples.
    """
    first: list[bytes] = []
    try:
        for one in tf.data.TFRecordDataset(path).take(_PEEKED).as_numpy_iterator():
            first.append(bytes(one))
    except tf.errors.DataLossError:
        pass  # what comes before the damage will do here; who reads all will tell
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(path, error, mistake=DataError) from None
    if not first:
        _refuse_without_records(path)
    return [features_of(one, f"{path}, record {i}") for i, one in enumerate(first)]


def _refuse_without_records(path: str) -> NoReturn:
    refuse_other_format(path)
    what = "is no TFRecord file, or damaged from its begin on"
    if not tf.io.gfile.stat(path).length:
        what = "is empty"
    raise DataError(f"{path} {what}: copy or prepare it again")


def refuse_other_format(path: str) -> None:
    """Raise a DataError where a file without a good record is something else."""
    if what := file_format(path):
        raise DataError(f"{path} is no TFRecord file, but {what}")


def find_fields(
    found: Sequence[Features], where: str, *, image: str | None, label: str | None
) -> Fields:
    """Return the names of the fields of a file's first records.

    Args:
      found: what `peek` returned.
      where: of the file, for messages.
      image: the field of the image, if somebody has said it.
      label: that of the label, likewise.

    Raises:
      DataError: there is no such field, or several, or none of the images is read.
    """
    first = found[0]
    for what, name in (("image", image), ("label", label)):
        if name and not any(name in one for one in found):
            raise DataError(
                f"{where} has the fields {named(first)}, and no {name}: name another "
                f"one with --{what}_field"
            )
    image = image or _find_image(first, where)
    label = label or _find_label(first, where)
    names = [name for name in _FILENAMES if _kind(first, name) == "bytes_list"]
    names = [name for name in names if name not in (image, label)]
    images = [_image(one, image, where) for one in found if image in one] or [b""]
    if image not in first:
        _image(first, image, f"{where}, record 0")
    if not any(image_formats.is_in_records(one) for one in images):
        what = image_formats.describe(images[0]) or _describe_bytes([images[0]])
        raise DataError(
            f"{where}: the field {image} holds {what}, where "
            f"{image_formats.RECORDS_HOLD}: {_FOLDERS}"
        )
    return Fields(image, label, names[0] if names else IMAGENET.filename)


def _find_image(features: Features, where: str) -> str:
    known = [name for name in _IMAGES if _kind(features, name)]
    if known:
        return _one_of(known, "image", features, where)
    looks = [
        name
        for name in sorted(features)
        if any(
            len(value) >= _IMAGE_BYTES and image_formats.describe(value)
            for value in _values(features, name, "bytes_list")
        )
    ]
    return _one_of(looks, "image", features, where)


def _find_label(features: Features, where: str) -> str:
    known = [name for name in _LABELS if _kind(features, name)]
    if not known:
        raise NoLabelError(f"{_unknown('label', features, where)}, or {_REWRITE}")
    return _one_of(known, "label", features, where)


def _one_of(names: list[str], what: str, features: Features, where: str) -> str:
    if names[:1] == [getattr(IMAGENET, what)] or len(names) == 1:
        return names[0]
    if names:
        raise DataError(
            f"{where} has the fields {named(features)}, and both {names[0]} and "
            f"{names[1]} may be the {what}: name one with --{what}_field"
        )
    raise DataError(_unknown(what, features, where))


def _unknown(what: str, features: Features, where: str) -> str:
    return (
        f"{where} has the fields {named(features)}, of which none is known as the "
        f"{what}: name it with --{what}_field"
    )
