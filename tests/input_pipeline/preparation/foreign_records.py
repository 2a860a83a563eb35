"""TFRecords as others' scripts write them, and folders of TensorFlow Datasets."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tests.input_pipeline.images import encoded

Features = dict[str, Any]
JPEGS = [encoded(seed) for seed in range(8)]
PNG = encoded(1, "PNG")
WEBP = encoded(1, "WEBP")


def example(features: Features) -> bytes:
    """Bytes, whole numbers and floats are of their kinds, alone or in lists."""
    made = {}
    for name, value in features.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        if isinstance(values[0], bytes):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], int):
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString(
        deterministic=True
    )


def imagenet(number: int, first: int = 1, **changes: Any) -> Features:
    """Example `number` of four classes; changes by the last word of a field's name."""
    names = {"encoded": "image/encoded", "label": "image/class/label"}
    fields = {
        "image/encoded": JPEGS[number % 8],
        "image/class/label": first + number % 4,
    }
    fields["image/filename"] = b"%d.JPEG" % number
    return fields | {names[key]: value for key, value in changes.items()}


def plain(number: int, first: int = 0, key: str = "label", **more: Any) -> Features:
    """As TensorFlow Datasets and most scripts have it."""
    return {"image": JPEGS[number % 8], key: first + number % 4, **more}


def write(folder: Any, files: Mapping[str, Sequence[Features | bytes]]) -> None:
    """Write TFRecords, of examples or of any bytes."""
    for name, contents in files.items():
        path = f"{folder}/{name}"
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.TFRecordWriter(path) as writer:
            for one in contents:
                writer.write(one if isinstance(one, bytes) else example(one))


def write_tfds(
    folder: pathlib.Path,
    splits: Mapping[str, Sequence[Sequence[Features]]],
    *,
    name: str = "pets",
    labels: str | None = "abyssinian\nbengal\nbirman\nbombay\n",
    changes: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Write a folder as `tfds build` does: of each split, the records of its files."""
    listed = []
    for split, shards in splits.items():
        names = [
            f"{name}-{split}.tfrecord-{i:05d}-of-{len(shards):05d}"
            for i in range(len(shards))
        ]
        write(folder, dict(zip(names, shards, strict=True)))
        listed.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1000",
                "shardLengths": [str(len(shard)) for shard in shards],
            }
        )
    items = [{"featureKey": "image"}, {"featureKey": "label"}]
    info = {
        "citation": "@Article{...}",
        "description": "Photos.",
        "fileFormat": "tfrecord",
        "moduleName": f"tensorflow_datasets.image_classification.{name}",
        "name": name,
        "splits": listed,
        "supervisedKeys": {"tuple": {"items": items}},
        "version": "5.1.0",
        **(changes or {}),
    }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    (folder / "features.json").write_text(json.dumps(_FEATURES, indent=4))
    if labels is not None:
        (folder / "label.labels.txt").write_text(labels)
    return folder


_CORE = "tensorflow_datasets.core.features"
_FEATURES = {
    "pythonClassName": f"{_CORE}.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "file_name": {
                "pythonClassName": f"{_CORE}.text_feature.Text",
                "text": {},
            },
            "image": {
                "pythonClassName": f"{_CORE}.image_feature.Image",
                "image": {
                    "shape": {"dimensions": ["-1", "-1", "3"]},
                    "dtype": "uint8",
                    "encodingFormat": "jpeg",
                },
            },
            "label": {
                "pythonClassName": f"{_CORE}.class_label_feature.ClassLabel",
                "classLabel": {"numClasses": "4"},
            },
        }
    },
}
