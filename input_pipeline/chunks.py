"""The records of a chunk: where chunks lie, and how one is read.

`input_pipeline.stream` says which chunk comes when. What is wrong with the bytes of a
file has a stand-in; what a storage refuses, or does not answer, is an error.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from common.storage_errors import READING
from input_pipeline.records import CHUNK_RECORDS, ShardInfo

Tensors = dict[str, Any]

# Stand in for records that cannot be read; neither parses as an Example.
UNREADABLE = b"\xffunreadable"
UNCOUNTED = b"\xffuncounted"

# At most, in one request of a bucket.
READ_BYTES = 8 << 20
_ANSWER_BYTES = 2048
# To ask for of a chunk of which nobody knows its size.
_UNKNOWN_BYTES = 2 << 20


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Of some files, in order; each field is an array with a value for each chunk.

    Attributes:
      shard: number of the file.
      offset: the byte at which it begins there.
      bytes: that it has there; of the last one of a file, how many to ask for.
      position: of its first record, counted through all files.
      size: how many records it has.
      is_last: whether the file ends with it.
    """

    shard: np.ndarray
    offset: np.ndarray
    bytes: np.ndarray
    position: np.ndarray
    size: np.ndarray
    is_last: np.ndarray

    @classmethod
    def of(cls, shards: Sequence[ShardInfo]) -> "Chunks":
        """Return the chunks of some files."""
        counts = np.array([shard.records for shard in shards], np.int64)
        chunks = [len(shard.offsets) for shard in shards]
        shard = np.repeat(np.arange(len(shards)), chunks)
        offset = np.concatenate([one.offsets for one in shards]).astype(np.int64)
        within = np.concatenate([np.arange(n) for n in chunks]) * CHUNK_RECORDS
        size = np.minimum(CHUNK_RECORDS, counts[shard] - within)
        is_last = within + size == counts[shard]
        # Nobody says where the last one of a file ends. It is taken for as large as
        # the largest: whoever reads gets what there is, and that is counted.
        known = np.where(is_last, 0, np.diff(offset, append=0))
        largest = known.max(initial=0) or _UNKNOWN_BYTES
        return cls(
            shard=shard,
            offset=offset,
            bytes=np.where(is_last, largest, known),
            position=(np.cumsum(counts) - counts)[shard] + within,
            size=size,
            is_last=is_last,
        )

    def fetched(self, buffer_bytes: int) -> int:
        """Return what is fetched to read each by itself, and a byte before it.

        Args:
          buffer_bytes: that a file system fills from where it reads a byte on.
        """
        ends = np.zeros(self.shard.max(initial=0) + 1, np.int64)
        np.maximum.at(ends, self.shard, self.offset + self.bytes)
        asked = self.bytes * (buffer_bytes < self.bytes) + buffer_bytes
        return int(np.minimum(asked, ends[self.shard] - self.offset).sum())


def sound_chunk(chunk: Tensors) -> Tensors:
    """Return the records of a chunk, or an error."""
    serialized = _read(chunk, chunk["count"] + _behind(chunk))
    sound = tf.size(serialized, tf.int64) == chunk["count"]
    with tf.control_dependencies([tf.debugging.Assert(sound, ["other records"])]):
        return {"serialized": tf.identity(serialized), "position": _positions(chunk)}


def guarded_chunk(chunk: Tensors) -> Tensors:
    """Return exactly `count` records, with stand-ins where there are none.

    Nothing is taken for damaged before the storage has answered that it is there: a
    bucket that is busy would be 16 bad records, each tried for minutes.
    """
    count = chunk["count"]

    def attempt(number: tf.Tensor, otherwise: tf.Tensor, skip: Any = 0) -> tf.Tensor:
        # Errors are caught around a function: a file that cannot be opened fails again
        # and again, and Dataset.ignore_errors would try for ever.
        found = tf.data.Dataset.from_tensors(number).map(
            lambda number: _read(chunk, number, skip)
        )
        fallback = tf.data.Dataset.from_tensors(otherwise)
        found = found.ignore_errors(log_warning=False).concatenate(fallback)
        return found.take(1).get_single_element()

    one, unreadable = tf.constant(1, tf.int64), tf.constant([UNREADABLE])

    def single(skip: tf.Tensor) -> tf.Tensor:
        def again() -> tf.Tensor:
            # A storage that fails at times only may have failed just now.
            with tf.control_dependencies([_ask(chunk["path"])]):
                return attempt(tf.identity(one), unreadable, skip)

        found = attempt(one, unreadable, skip)
        found = tf.cond(found[0] == UNREADABLE, again, lambda: found)
        is_lost = found[0] == UNREADABLE
        asked = tf.cond(is_lost, lambda: _ask(chunk["path"]), lambda: tf.constant(b""))
        with tf.control_dependencies([asked]):
            return tf.identity(found)

    def one_by_one() -> tf.Tensor:
        with tf.control_dependencies([_ask(chunk["path"])]):
            numbers = tf.data.Dataset.range(tf.identity(count))
        singly = numbers.map(single).unbatch()
        return singly.batch(CHUNK_RECORDS).get_single_element()

    serialized = attempt(count + _behind(chunk), tf.zeros([0], tf.string))
    serialized = tf.cond(tf.size(serialized) == 0, one_by_one, lambda: serialized)
    missing = tf.fill(
        [tf.maximum(count - tf.size(serialized, tf.int64), 0)], UNREADABLE
    )
    too_many = tf.cast(tf.size(serialized, tf.int64) > count, tf.int64)
    uncounted = tf.fill([too_many], UNCOUNTED)
    serialized = tf.concat([serialized[: count - too_many], missing, uncounted], 0)
    return {"serialized": serialized, "position": _positions(chunk)}


def after_asking(read: Callable[[Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
    """Return a function that reads a chunk once the storage has answered."""

    @tf.autograph.experimental.do_not_convert
    def read_chunk(chunk: Tensors) -> Tensors:
        with tf.control_dependencies([_ask(chunk["path"])]):
            return read({name: tf.identity(value) for name, value in chunk.items()})

    return read_chunk


def _ask(path: tf.Tensor) -> tf.Tensor:
    """Read the first byte of a file; the error is the file system's own.

    Dataset.ignore_errors swallows all errors alike, and tells none from another. So
    where it has swallowed one, this asks for that of the storage, which goes through
    the pipeline to `common.storage_errors.from_storage` under the name that it knows.
    """

    def first_byte(path: tf.Tensor) -> tf.Tensor:
        dataset = tf.raw_ops.FixedLengthRecordDatasetV2(
            filenames=path[None],
            header_bytes=0,
            record_bytes=1,
            footer_bytes=0,
            # What a request brings has to have room for the words of a refusal: see
            # `common.gcs_reads`, whose setting may not be the one that counts.
            buffer_size=_ANSWER_BYTES,
            compression_type="",
        )
        byte = tf.data.experimental.from_variant(dataset, tf.TensorSpec([], tf.string))
        of_nothing = tf.data.Dataset.from_tensors(tf.constant(b""))
        return byte.concatenate(of_nothing).take(1).get_single_element()

    asked = tf.data.Dataset.from_tensors(path).map(first_byte, name=READING)
    return asked.get_single_element()


def _behind(chunk: Tensors) -> tf.Tensor:
    """Return 1 where a file ends with the chunk: no record may be behind it."""
    return tf.cast(chunk["is_end"], tf.int64)


def _positions(chunk: Tensors) -> tf.Tensor:
    return chunk["position"] + tf.range(chunk["count"])


def _read(chunk: Tensors, number: tf.Tensor, skip: Any = 0) -> tf.Tensor:
    """Read the next so many records of a chunk; an error if there are none."""
    records = file_from(chunk["path"], chunk["offset"], chunk["bytes"])
    records = records.skip(chunk["skip"] + skip).take(number)
    return records.batch(number).get_single_element()


def whole_file(path: str) -> tf.data.Dataset:
    """Read the records of a file from its begin; see `file_from`."""
    # As the dataset of TensorFlow's, without the function that it traces for each file.
    dataset = tf.raw_ops.TFRecordDataset(
        filenames=[path], compression_type="", buffer_size=READ_BYTES
    )
    return tf.data.experimental.from_variant(dataset, tf.TensorSpec([], tf.string))


def file_from(path: tf.Tensor, offset: tf.Tensor, size: Any) -> tf.data.Dataset:
    """Read the records of a file from a byte on, `size` bytes in a few equal reads.

    Storage is asked for just these bytes, a byte before them, and no more unless
    records behind them are wanted; on gs:// only if `common.gcs_reads` has been heeded.

    `tf.data.TFRecordDataset` has no argument for what its kernel can. The kernel cannot
    be serialized with its offset (TensorFlow 2.20), so this has to be used up within
    the function that calls it.
    """
    size = tf.cast(size, tf.int64)
    reads = (size + READ_BYTES - 1) // READ_BYTES
    dataset = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None],
        compression_type="",
        buffer_size=(size + reads - 1) // reads,
        byte_offsets=offset[None],
    )
    return tf.data.experimental.from_variant(dataset, tf.TensorSpec([], tf.string))
