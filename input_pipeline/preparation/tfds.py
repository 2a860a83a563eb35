"""What TensorFlow Datasets writes beside its TFRecords."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from common import gfiles
from common.errors import one_line
from input_pipeline import dataset_info
from input_pipeline.errors import DataError

_MOST_FILES = 1_000_000
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class TfdsInfo:
    """Its dataset_info.json.

    Attributes:
      name: of the dataset.
      image: the feature that holds the image, None where it is not said.
      label: that of the label, likewise.
      splits: the names of the files of each, and how many records each holds; None
        where an older version does not say it.
    """

    name: str
    image: str | None
    label: str | None
    splits: Mapping[str, Mapping[str, int | None]]


def foreign_info(folder: str) -> dict[str, Any] | None:
    """Return the dataset_info.json of another tool; None where there is none."""
    path = tf.io.gfile.join(folder, dataset_info.INFO_FILENAME)
    dataset_info.require_file(path)
    try:
        content = json.loads(gfiles.read_text(path) or "null")
    except (ValueError, RecursionError):  # of ours, perhaps: who reads it will tell
        return None
    return content if dataset_info.is_foreign(content) else None


def read(folder: str) -> TfdsInfo | None:
    """Read dataset_info.json; None where it is none of TensorFlow Datasets'.

    Raises:
      DataError: it cannot be read, or tells of files that are no TFRecords.
    """
    content = foreign_info(folder)
    if content is None:
        _require_whole(folder)
        return None
    if not isinstance(content.get("splits"), list):
        return None
    path = tf.io.gfile.join(folder, dataset_info.INFO_FILENAME)
    if (form := content.get("fileFormat", "tfrecord")) != "tfrecord":
        raise DataError(
            f"{path} tells of files of the format {form}: write them again as "
            "TFRecords, tfds build --file_format=tfrecord"
        )
    try:
        return _from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path}, of TensorFlow Datasets, cannot be read "
            f"({type(error).__name__}: {one_line(error)}): copy it again"
        ) from None


def _require_whole(folder: str) -> None:
    """Refuse half a dataset_info.json in a folder that is TensorFlow Datasets'."""
    path = tf.io.gfile.join(folder, dataset_info.INFO_FILENAME)
    if not gfiles.exists(tf.io.gfile.join(folder, "features.json")):
        return
    try:
        json.loads(gfiles.read_text(path) or "null")
    except (ValueError, RecursionError):
        raise DataError(
            f"{path}, of TensorFlow Datasets, is damaged or cut off: copy it again"
        ) from None


def labels_file(folder: str, label: str) -> str | None:
    """Return the path of the classes' names, from label 0; None if there are none."""
    path = tf.io.gfile.join(folder, f"{label.replace('/', '-')}.labels.txt")
    return path if gfiles.exists(path) else None


def _from_json(content: dict[str, Any]) -> TfdsInfo:
    if not isinstance(name := content["name"], str):
        raise TypeError("name is no text")
    keys = content.get("supervisedKeys") or {}
    items = [item["featureKey"] for item in keys.get("tuple", {}).get("items", [])]
    if "input" in keys:  # as older versions have it
        items = [keys["input"], keys.get("output")]
    image, label = items if len(set(items)) == 2 == len(items) else (None, None)
    splits = {split["name"]: _files(name, split) for split in content["splits"]}
    return TfdsInfo(name, image, label, splits)


def _files(dataset: str, split: dict[str, Any]) -> dict[str, int | None]:
    if "shardLengths" in split:
        lengths = [int(length) for length in split["shardLengths"]]
    elif (number := int(split["numShards"])) <= _MOST_FILES:
        lengths = [None] * number
    else:
        raise ValueError(f"{number} files")
    total = f"{len(lengths):05d}"
    files = {}
    for shard, length in enumerate(lengths):
        name = split.get("filepathTemplate", _TEMPLATE)
        for key, value in {
            "DATASET": dataset,
            "SPLIT": split["name"],
            "FILEFORMAT": "tfrecord",
            "SHARD_X_OF_Y": f"{shard:05d}-of-{total}",
            "SHARD_INDEX": f"{shard:05d}",
            "NUM_SHARDS": total,
        }.items():
            name = name.replace(f"{{{key}}}", value)
        files[name] = length
    if len(files) < len(lengths):
        raise ValueError("several shards of one name")
    return files
