"""The TFRecord schema of ImageNet, and the description of a prepared dataset."""

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from common import files, gfiles
from common.errors import one_line
from input_pipeline.errors import DataError

INFO_FILENAME = "dataset_info.json"
# No record can hold it: it tells a missing label from a wrong one.
MISSING_LABEL = tf.int64.min
# Reading can begin at every so many records. Fewer shuffle better; more make longer
# reads, which a bucket likes.
CHUNK_RECORDS = 16
# Around the bytes of each record: length, its CRC, and the CRC of the bytes.
_FRAMING = 8 + 4 + 4


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One TFRecord file.

    Attributes:
      filename: in the dataset's folder.
      records: how many it holds.
      offsets: the byte at which every CHUNK_RECORDS-th record begins, from the first.
    """

    filename: str
    records: int
    offsets: tuple[int, ...]


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
        """Return a split, or some of its shards.

        Args:
          name: as in `splits`; or, in the notation of TensorFlow Datasets, a range of
            its shards, "train[:20shard]" or "train[20shard:]", to hold some out.

        Raises:
          DataError: names the splits that there are, or the shards.
        """
        whole, bracket, _ = name.partition("[")
        if whole not in self.splits:
            raise DataError(
                f"dataset {self.name} has no split {name!r}: "
                f"choose one of {', '.join(self.splits)}"
            )
        shards = self.splits[whole].shards
        if bracket:
            shards = shards[_shard_range(name, len(shards))]
        return SplitInfo(shards)


def _shard_range(split: str, count: int) -> slice:
    """Return the shards that "train[2shard:5shard]" names, of `count`."""
    found = re.fullmatch(r"\w+\[(?:(\d+)shard)?:(?:(\d+)shard)?\]", split)
    first, last = (found[1], found[2]) if found else (None, None)
    begin, end = int(first or 0), int(last or count)
    if not found or not 0 <= begin < end <= count:
        raise DataError(
            f"cannot take {split!r} of {count} shards: write [:20shard], [20shard:] or "
            f"[2shard:5shard], with at least one shard and none beyond {count}"
        )
    return slice(begin, end)


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
    """Serialize one RGB JPEG with ImageNet's fields; the same bytes on every run."""
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


def parse(serialized: tf.Tensor, *, filename: bool = False) -> dict[str, tf.Tensor]:
    """Read what training needs: "encoded" (string) and the raw "label" (int64).

    Absent fields come back as "" and MISSING_LABEL, so that the caller can name them.

    Args:
      serialized: string scalar, the bytes of a record, whatever they are.
      filename: whether to read "filename" (string), too.

    Raises:
      InvalidArgumentError: they are no Example with such fields.
    """
    texts = {"encoded": "image/encoded"}
    if filename:
        texts["filename"] = "image/filename"
    # As lists of any length: TensorFlow 2.20 counts the values of those, and checks
    # their lengths, before it reads them. It reads a single value right away, and a
    # length of 2 GB, which three damaged bytes can say, is SIGSEGV then.
    found = tf.io.parse_single_example(
        serialized,
        {
            "image/class/label": tf.io.FixedLenFeature([], tf.int64, MISSING_LABEL),
            **{
                field: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
                for field in texts.values()
            },
        },
    )
    values = {name: _only(found[field]) for name, field in texts.items()}
    return {**values, "label": found["image/class/label"]}


def _only(values: tf.Tensor) -> tf.Tensor:
    """Return the one value, or "" if there is none; an error if there are several."""
    none = tf.cast(tf.equal(tf.size(values), 0), tf.int32)
    return tf.reshape(tf.concat([values, tf.fill([none], "")], 0), [])


def shard_path(data_dir: str, shard: ShardInfo) -> str:
    """Return the path of one shard, on a disk or in a bucket."""
    return tf.io.gfile.join(data_dir, shard.filename)


def write_shard(path: str, examples: Iterable[bytes]) -> ShardInfo:
    """Write a TFRecord file, whole or not at all, on a disk or in a bucket."""
    sizes = []
    with gfiles.writing(path) as staging, tf.io.TFRecordWriter(staging) as writer:
        for example in examples:
            writer.write(example)
            sizes.append(len(example))
    return _shard_info(path, sizes)


def index_shard(path: str, inspect: Callable[[bytes], None] | None = None) -> ShardInfo:
    """Read a TFRecord file, checking every CRC; a DataError if it is not whole.

    `inspect` is called with each record in turn.
    """
    sizes: list[int] = []
    whole = True
    try:
        contents = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
        for content in map(bytes, contents.as_numpy_iterator()):
            sizes.append(len(content))
            if inspect is not None:
                inspect(content)
    except tf.errors.DataLossError:
        whole = False
    # TensorFlow takes a file that is cut off right behind a length for a whole one.
    size = sum(sizes) + _FRAMING * len(sizes)
    if not whole or tf.io.gfile.stat(path).length != size:
        raise DataError(
            f"{path} is not a whole TFRecord file, it is damaged or cut off after "
            f"{len(sizes)} good records: copy or prepare it again"
        )
    return _shard_info(path, sizes)


def _shard_info(path: str, sizes: list[int]) -> ShardInfo:
    ends = itertools.accumulate((size + _FRAMING for size in sizes), initial=0)
    starts = list(ends)[:-1]
    return ShardInfo(
        path.rpartition("/")[2], len(sizes), tuple(starts[::CHUNK_RECORDS])
    )


def write_info(info: DatasetInfo, data_dir: str) -> None:
    """Write dataset_info.json, whole or not at all."""
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
        "chunk_records": CHUNK_RECORDS,
        "splits": splits,
    }
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    gfiles.write_text(path, json.dumps(content) + "\n")


def require_file(path: str) -> None:
    """Raise DataError where something else than a file has a file's name.

    To read a pipe would wait for ever. A link counts as what it points to; one that
    points to nothing is not nothing: its disk may be away.
    """
    local = gfiles.local_path(path)
    if local is None:
        return
    what = files.kind(local, follow_links=True)
    if what is None and files.kind(local) == files.LINK:
        raise DataError(
            f"{path} is a link to {os.readlink(local)}, where nothing is: mount its "
            "disk, or remove the link"
        )
    if what not in (None, files.FILE):
        raise DataError(
            f"{path} is a {what}, no file: move it away, or choose another folder"
        )


def load_info(data_dir: str) -> DatasetInfo:
    """Read dataset_info.json and look that every shard it names is there, a file.

    Raises:
      DataError: no such folder, no or unreadable dataset_info.json, missing shards,
        or what is no file.
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
    for shard in shards:
        require_file(shard_path(data_dir, shard))
    return info


def read_info(data_dir: str) -> DatasetInfo:
    """Read dataset_info.json alone; raise DataError as load_info does."""
    path = tf.io.gfile.join(data_dir, INFO_FILENAME)
    require_file(path)
    try:
        # Not isdir: it takes a bucket that it may not look at for an empty one.
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path) as file:
                return _info_from_json(json.loads(file.read()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {one_line(error)}): mend "
            "it, which keeps the names that it gives the classes; or prepare the "
            "dataset again, or python -m input_pipeline.prepare tfrecords --source "
            f"{data_dir} if its TFRecords are sound, with --overwrite_info"
        ) from None
    except tf.errors.OpError as error:
        raise DataError(_unreachable(path, error)) from None
    if not tf.io.gfile.isdir(data_dir):
        raise DataError(
            f"there is no data folder {data_dir}: name another one, or make it by "
            "python -m input_pipeline.prepare, of photos in folders, ImageNet, "
            "TFRecords or digits that are at hand"
        )
    raise DataError(
        f"{data_dir} holds no finished dataset: no {INFO_FILENAME} says what its "
        "TFRecords are; start input_pipeline.prepare again if it was cut short; for "
        "TFRecords from elsewhere python -m input_pipeline.prepare tfrecords --source "
        f"{data_dir}"
    )


def _unreachable(path: str, error: tf.errors.OpError) -> str:
    """Say what a file system had against a path, and how to mend it."""
    mend = "look at its permissions"
    if path.startswith("gs://"):
        mend = (
            "look at the bucket's name, the network, and the credentials (gcloud auth "
            "application-default login, or a service account with storage.objects.get "
            "and storage.objects.list)"
        )
    return f"{path} cannot be read: {one_line(error)}; {mend}"


def _info_from_json(content: dict) -> DatasetInfo:
    splits = {
        name: SplitInfo(tuple(_shard_from_json(shard) for shard in split["shards"]))
        for name, split in content["splits"].items()
    }
    if content["chunk_records"] != CHUNK_RECORDS:
        raise ValueError("offsets of other chunks")
    if not splits or not all(split.total > 0 for split in splits.values()):
        raise ValueError("a split without records")
    return DatasetInfo(
        name=content["name"],
        label_offset=content["label_offset"],
        label_names=tuple(content["label_names"]),
        splits=splits,
    )


def _shard_from_json(content: dict) -> ShardInfo:
    shard = ShardInfo(
        content["filename"], content["records"], tuple(content["offsets"])
    )
    if len(shard.offsets) != -(-shard.records // CHUNK_RECORDS):
        raise ValueError("too few offsets")
    return shard
