"""The TFRecord schema of ImageNet, and the description of a prepared dataset."""

import dataclasses
import json
from collections.abc import Mapping

import tensorflow as tf

from input_pipeline.errors import DataError

INFO_FILENAME = "dataset_info.json"
# No record can hold it: it tells a missing label from a wrong one.
MISSING_LABEL = tf.int64.min


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One TFRecord file: its name in the dataset's folder and its record count."""

    filename: str
    records: int


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """The shards of one split, in file order."""

    shards: tuple[ShardInfo, ...]

    @property
    def total(self) -> int:
        """The number of records in all shards."""
        return sum(shard.records for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a prepared folder holds; `label_offset` is the label of the first name."""

    name: str
    label_offset: int
    label_names: tuple[str, ...]
    splits: Mapping[str, SplitInfo]

    def split(self, name: str) -> SplitInfo:
        """Returns one split; a DataError names the splits that there are."""
        if name not in self.splits:
            raise DataError(
                f"dataset {self.name} has no split {name!r}: "
                f"choose one of {', '.join(self.splits)}"
            )
        return self.splits[name]


def make_example(
    encoded: bytes,
    *,
    label: int,
    height: int,
    width: int,
    filename: str,
    synset: str,
    text: str,
) -> bytes:
    """Serializes one RGB JPEG with ImageNet's fields; the same bytes on every run."""
    features = {
        "image/encoded": _bytes(encoded),
        "image/format": _bytes(b"JPEG"),
        "image/colorspace": _bytes(b"RGB"),
        "image/channels": _int64(3),
        "image/height": _int64(height),
        "image/width": _int64(width),
        "image/filename": _bytes(filename.encode()),
        "image/class/label": _int64(label),
        "image/class/synset": _bytes(synset.encode()),
        "image/class/text": _bytes(text.encode()),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Reads what training needs: "encoded" (string) and the raw "label" (int64).

    Absent fields come back as "" and MISSING_LABEL, so that the caller can name them.
    """
    fields = tf.io.parse_single_example(
        serialized,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64, MISSING_LABEL),
        },
    )
    return {"encoded": fields["image/encoded"], "label": fields["image/class/label"]}


def shard_path(data_dir: str, shard: ShardInfo) -> str:
    """The path of one shard, on a disk or in a bucket."""
    return tf.io.gfile.join(data_dir, shard.filename)


def count_records(path: str) -> int:
    """Counts a TFRecord file's records, checking every CRC; a DataError if broken."""
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(path, buffer_size=8 << 20):
            count += 1
    except tf.errors.DataLossError:
        raise DataError(
            f"{path} is not a whole TFRecord file, it is damaged or cut off after "
            f"{count} good records: copy or prepare it again"
        ) from None
    return count


def write_info(info: DatasetInfo, data_dir: str) -> None:
    """Writes dataset_info.json, whole or not at all."""
    splits = {
        name: {
            "total": split.total,
            "shards": [dataclasses.asdict(shard) for shard in split.shards],
        }
        for name, split in info.splits.items()
    }
    content = {
        "name": info.name,
        "label_offset": info.label_offset,
        "label_names": list(info.label_names),
        "splits": splits,
    }
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    with tf.io.gfile.GFile(path + ".tmp", "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
    tf.io.gfile.rename(path + ".tmp", path, overwrite=True)


def load_info(data_dir: str) -> DatasetInfo:
    """Reads dataset_info.json and looks that every shard it names is there.

    Raises:
      DataError: no such folder, no or unreadable dataset_info.json, missing shards.
    """
    info = read_info(data_dir)
    present = set(tf.io.gfile.listdir(data_dir))
    shards = [shard for split in info.splits.values() for shard in split.shards]
    missing = [shard.filename for shard in shards if shard.filename not in present]
    if missing:
        raise DataError(
            f"{data_dir} lacks {len(missing)} of its {len(shards)} TFRecord files, "
            f"the first is {missing[0]}: copy them there, or prepare the dataset again"
        )
    return info


def read_info(data_dir: str) -> DatasetInfo:
    """Reads dataset_info.json alone; raises DataError as load_info does."""
    if not tf.io.gfile.isdir(data_dir):
        raise DataError(
            f"there is no data folder {data_dir}: name another one, or make it, as in "
            f"python -m input_pipeline.prepare mnist --output {data_dir}"
        )
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    if not tf.io.gfile.exists(path):
        raise DataError(
            f"{data_dir} holds no finished dataset: no {INFO_FILENAME} says what its "
            "TFRecords are; start input_pipeline.prepare again if it was cut short, "
            "for TFRecords of your own see the README"
        )
    try:
        with tf.io.gfile.GFile(path) as file:
            return _info_from_json(json.loads(file.read()))
    except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as e:
        raise DataError(
            f"{path} cannot be read ({type(e).__name__}): "
            f"delete it and prepare the dataset again"
        ) from None


def _info_from_json(content: dict) -> DatasetInfo:
    splits = {
        name: SplitInfo(tuple(ShardInfo(**shard) for shard in split["shards"]))
        for name, split in content["splits"].items()
    }
    if not splits or not all(split.total > 0 for split in splits.values()):
        raise ValueError("a split without records")
    return DatasetInfo(
        name=content["name"],
        label_offset=content["label_offset"],
        label_names=tuple(content["label_names"]),
        splits=splits,
    )
