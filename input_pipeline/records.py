"""Records of images: the fields of one, and the TFRecord files they lie in."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable

import tensorflow as tf

from common import gfiles
from input_pipeline.errors import DataError

# No record can hold it: it tells a missing label from a wrong one.
MISSING_LABEL = tf.int64.min
# Reading can begin at every so many records. Fewer shuffle better; more make longer
# reads, which a bucket likes.
CHUNK_RECORDS = 16
# Of a SHA-256 in hex: 128 bits tell all data sets apart that there will ever be.
DIGEST_CHARACTERS = 32
# Around the bytes of each record: length, its CRC, and the CRC of the bytes.
_HEADER, FRAMING = 8 + 4, 8 + 4 + 4


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One TFRecord file.

    Attributes:
      filename: in the folder of the records.
      records: how many it holds.
      offsets: the byte at which every CHUNK_RECORDS-th record begins, from the first.
      digest: of the records' bytes in order, each behind its length: the begin of a
        SHA-256 in hex; "" where nobody has read them for it.
    """

    filename: str
    records: int
    offsets: tuple[int, ...]
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class Fields:
    """The features of an Example that are read, ImageNet's by default."""

    image: str = "image/encoded"
    label: str = "image/class/label"
    filename: str = "image/filename"


IMAGENET = Fields()


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
        "image/encoded": encoded,
        "image/format": b"JPEG",
        "image/colorspace": b"RGB",
        "image/channels": 3,
        "image/height": height,
        "image/width": width,
        "image/filename": filename.encode(),
        "image/class/label": label,
        "image/class/synset": synset.encode(),
        "image/class/text": text.encode(),
    }
    example = tf.train.Example()
    # Filled in place: a message that is handed to another one is copied, three times.
    for name, value in features.items():
        feature = example.features.feature[name]
        of_kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        of_kind.value.append(value)
    return example.SerializeToString(deterministic=True)


def parse(
    serialized: tf.Tensor,
    fields: Fields = IMAGENET,
    *,
    filename: bool = False,
    image_required: bool = False,
) -> dict[str, tf.Tensor]:
    """Read what training needs: "encoded" (string) and the raw "label" (int64).

    Absent fields come back as "" and MISSING_LABEL, so that the caller can name them.

    Args:
      serialized: string scalar, the bytes of a record, whatever they are.
      fields: what the record calls them.
      filename: whether to read "filename" (string), too.
      image_required: whether to raise where there is no image, which is quicker.

    Raises:
      InvalidArgumentError: they are no Example with such fields. To make a Python error
        of it is UnicodeDecodeError where the message quotes such bytes.
    """
    texts = {"encoded": fields.image}
    if filename:
        texts["filename"] = fields.filename
    # As lists of any length: TensorFlow 2.20 counts the values of those, and checks
    # their lengths, before it reads them. It reads a single value right away, and a
    # length of 2 GB, which four damaged bytes can say, is SIGSEGV then.
    found = tf.io.parse_single_example(
        serialized,
        {
            fields.label: tf.io.FixedLenFeature([], tf.int64, MISSING_LABEL),
            **{
                field: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
                for field in texts.values()
            },
        },
    )
    values = {name: _only(found[field]) for name, field in texts.items()}
    if image_required:
        values["encoded"] = tf.reshape(found[fields.image], [])
    return {**values, "label": found[fields.label]}


def _only(values: tf.Tensor) -> tf.Tensor:
    """Return the one value, or "" if there is none; an error if there are several."""
    none = tf.cast(tf.equal(tf.size(values), 0), tf.int32)
    return tf.reshape(tf.concat([values, tf.fill([none], "")], 0), [])


def shard_path(folder: str, shard: ShardInfo) -> str:
    """Return the path of one shard, in the `records_folder` of its dataset."""
    return tf.io.gfile.join(folder, shard.filename)


def write_shard(path: str, examples: Iterable[bytes]) -> ShardInfo:
    """Write a TFRecord file, whole or not at all, on a disk or in a bucket."""
    contents = _Contents()
    with gfiles.writing(path) as staging, tf.io.TFRecordWriter(staging) as writer:
        for example in examples:
            writer.write(example)
            contents.add(example)
    return contents.shard_info(path)


def index_shard(path: str, inspect: Callable[[bytes], None] | None = None) -> ShardInfo:
    """Read a TFRecord file, checking every CRC; a DataError if it is not whole.

    `inspect` is called with each record in turn.
    """
    contents = _Contents()
    whole = True
    try:
        found = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
        for content in map(bytes, found.as_numpy_iterator()):
            contents.add(content)
            if inspect is not None:
                inspect(content)
    except tf.errors.DataLossError:
        whole = False
    # TensorFlow takes a file that is cut off right behind a length for a whole one.
    if not whole or tf.io.gfile.stat(path).length != contents.size:
        raise DataError(
            f"{path} is not a whole TFRecord file, it is damaged or cut off after "
            f"{contents.records} good records: copy or prepare it again"
        )
    return contents.shard_info(path)


def bounds(sizes: Iterable[int]) -> list[int]:
    """Return the byte at which each record of a file begins, and that of its end.

    Args:
      sizes: of the records, in bytes.
    """
    return list(itertools.accumulate((n + FRAMING for n in sizes), initial=0))


def read_record(path: str, begin: int, size: int) -> bytes:
    """Read one record of a file and nothing else; whether it is sound is not checked.

    Args:
      path: on a disk or in a bucket.
      begin: the byte at which it begins.
      size: of the record, in bytes.

    Raises:
      OSError, OpError: the file cannot be read.
    """
    local = gfiles.local_path(path)
    if local is not None:
        with open(local, "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, begin + _HEADER)
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(begin + _HEADER)
        return file.read(size)


class ContentDigest:
    """What tells the records of a file from any others: their bytes, in order.

    Of their bytes, not of the checksums that the file has of them: TensorFlow checks
    those and keeps them to itself, and 32 bits would not tell images apart that
    somebody means to exchange.
    """

    def __init__(self):
        self._hash = hashlib.sha256()

    def add(self, record: bytes) -> None:
        """Take note of the next record."""
        self._hash.update(len(record).to_bytes(8, "little"))
        self._hash.update(record)

    def hex(self) -> str:
        """Return it as a ShardInfo has it."""
        return self._hash.hexdigest()[:DIGEST_CHARACTERS]


class _Contents:
    """What is to be known of a file's records, which pass by once."""

    def __init__(self):
        self._sizes: list[int] = []
        self._digest = ContentDigest()

    @property
    def records(self) -> int:
        """How many there were."""
        return len(self._sizes)

    @property
    def size(self) -> int:
        """The bytes of a file that holds them and nothing else."""
        return sum(self._sizes) + FRAMING * len(self._sizes)

    def add(self, record: bytes) -> None:
        """Take note of the next record."""
        self._sizes.append(len(record))
        self._digest.add(record)

    def shard_info(self, path: str) -> ShardInfo:
        """Return what there is to say of the file at `path`."""
        return ShardInfo(
            path.rpartition("/")[2],
            self.records,
            tuple(bounds(self._sizes)[:-1:CHUNK_RECORDS]),
            self._digest.hex(),
        )
