"""The record stream: which record comes when, on which input host.

An input host is one of the pipelines that share the data: each has a process, or a
machine, of its own. The order is a pure function of (seed, epoch, input hosts). A split
is cut into chunks of a few consecutive records. Every epoch puts all chunks of all
shards in another order and gives each input host an equal share of it; that fills a
buffer with the records of its next chunks, and shuffles it. Epochs follow one another
and each holds every record once.

Buffer u is a function of u alone, as dataset_info.json says where each chunk begins.
So a resumed run reads no more than one buffer again, and buffers can be read by
machines that know nothing of each other (`input_pipeline.service`).
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from common import gcs_reads, gfiles
from input_pipeline.chunks import (
    Chunks,
    Tensors,
    after_asking,
    guarded_chunk,
    sound_chunk,
)
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import shard_path

# Records that are shuffled at a time, unless a run says otherwise.
SHUFFLE_BUFFER = 1024

# Chunks that one buffer reads at a time, and buffers read ahead: a bucket's latency is
# hidden behind them. There a chunk is two requests, of 20 to 50 ms each before a byte
# comes: one chunk in flight brings some 130 records a second. Six of them keep a core
# busy that decodes 700; 96 bring the 11,000 that the chips of a host take.
_PARALLEL_CHUNKS = 16
_PARALLEL_BUFFERS = 2
_BUCKET_CHUNKS = min(48, max(8, 3 * len(os.sched_getaffinity(0))))
_FOREVER = tf.int64.max
# Nothing here is written for AutoGraph, and to convert it takes seconds.
_as_it_is = tf.autograph.experimental.do_not_convert

Known = tuple[tf.Tensor, tf.Tensor]  # an epoch, and its order of chunks


@dataclasses.dataclass(frozen=True)
class InputHost:
    """One of the input hosts that share the data, counted from 0."""

    number: int = 0
    count: int = 1

    def __post_init__(self):
        if not 0 <= self.number < self.count:
            raise ValueError(
                f"host {self.number} is not one of {self.count} hosts counted from 0"
            )

    def share(self, total):
        """Return how many of the first `total` images of all are this one's."""
        return (total - self.number + self.count - 1) // self.count

    def before(self, total):
        """Return how many of the first `total` images are those of hosts before it."""
        rest = total % self.count
        return total // self.count * self.number + tf.minimum(rest, self.number)


ONLY_INPUT_HOST = InputHost()


class Records:
    """The records of a split, and how they are read.

    Attributes:
      split: whose they are.
      total: how many.
      folder: where they lie.
      paths: of the files.
      chunks: of the files.
      in_bucket: whether they lie on no disk of this machine.
      parallel_chunks: how many are read at a time.
    """

    def __init__(self, info: DatasetInfo, data_dir: str, split: str):
        self.split: SplitInfo = info.split(split)
        self.total = self.split.total
        shards = self.split.shards
        self.folder = info.records_folder(data_dir)
        self.paths = [shard_path(self.folder, shard) for shard in shards]
        self.chunks = Chunks.of(shards)
        # Of the shards, as positions in the split.
        self._ends = np.cumsum([shard.records for shard in shards], dtype=np.int64)
        self.in_bucket = gfiles.local_path(self.folder) is None
        self.parallel_chunks = _BUCKET_CHUNKS if self.in_bucket else _PARALLEL_CHUNKS

    @property
    def num_chunks(self) -> int:
        """In all shards."""
        return len(self.chunks.size)

    def location(self, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the file of the record at a position, and its number in the file."""
        ends = tf.constant(self._ends)
        shard = tf.searchsorted(ends, position[None], side="right")[0]
        begin = tf.concat([[tf.constant(0, tf.int64)], ends], 0)[shard]
        return tf.gather(self.paths, shard), position - begin

    @_as_it_is
    def read(
        self,
        order: tf.Tensor | None,
        begin: tf.Tensor,
        end: tf.Tensor,
        *,
        guarded: bool = True,
        suspect: bool = False,
    ) -> tf.data.Dataset:
        """Read records begin..end-1 of the chunks laid end to end in an order.

        Args:
          order: int[num_chunks], None for that of the files.
          begin: int64 scalar.
          end: int64 scalar.
          guarded: whether UNREADABLE or UNCOUNTED stand in for what is not as
            dataset_info.json says; else a chunk in which anything is not raises an
            error, which costs less. What the storage itself refuses, or does not
            answer, is an error always.
          suspect: of a guarded range, whether reading it has failed already: the
            storage is then asked before each chunk is read.

        Returns:
          A dataset of exactly end - begin records {"serialized": string, "position":
          int64, of the record in file order}.
        """
        if order is None:
            order = tf.range(self.num_chunks)
        ends: Any = tf.cumsum(tf.gather(self.chunks.size, order))
        bounds = tf.stack([begin, end - 1])
        first, last = tf.unstack(tf.searchsorted(ends, bounds, side="right"))
        past = tf.where(end > begin, last + 1, first)  # none, of an empty range
        chosen = tf.gather(order, tf.range(first, past))
        size, ends = tf.gather(self.chunks.size, chosen), ends[first:past]
        skip = tf.maximum(begin - (ends - size), 0)
        stop = tf.minimum(end - (ends - size), size)
        chunks = {
            **self.located(chosen),
            "position": tf.gather(self.chunks.position, chosen) + skip,
            "skip": skip,
            "count": stop - skip,
            "is_end": tf.gather(self.chunks.is_last, chosen) & (stop == size),
        }
        chunks = tf.data.Dataset.from_tensors(chunks).unbatch()
        read_chunk = guarded_chunk if guarded else sound_chunk
        read = chunks.map(
            after_asking(read_chunk) if suspect else read_chunk,
            num_parallel_calls=self.parallel_chunks,
            deterministic=True,
        )
        return read.unbatch()

    def located(self, chunk: tf.Tensor) -> Tensors:
        """Return in which file chunks are, from which byte on, and how many bytes."""
        shard = tf.gather(self.chunks.shard, chunk)
        return {
            "path": tf.gather(self.paths, shard),
            "offset": tf.gather(self.chunks.offset, chunk),
            "bytes": tf.gather(self.chunks.bytes, chunk),
        }


@_as_it_is
def read_buffer(
    records: Records,
    number: tf.Tensor,
    *,
    seed: int,
    input_host: InputHost,
    size: int,
    known: Known | None = None,
) -> dict[str, tf.Tensor]:
    """Read buffer `number` of an input host's endless stream, shuffled.

    The images of one input host are counted through all epochs, and buffers are cut
    from them without regard to where an epoch ends; each part is shuffled by itself:

        epochs      |      0      |      1      |      2      |      3  ...
        buffers     |      0       |      1       |      2       |   3  ...
                                   ^              ^
                                 begin           end   of 1: parts of epochs 1 and 2

    A part is read as a range of the chunks of its epoch. These are laid end to end in
    the epoch's own order, and the input hosts have equal shares of that:

        shares      | host 0 | host 1       | host 2 |
        part                     |==========|
                             ^   ^          ^
                   share_begin   low        high   records of the epoch before them

    Args:
      records: of the split.
      number: of the buffer.
      seed: of the order.
      input_host: which one of how many.
      size: of a buffer.
      known: an epoch and its order of chunks, which then is not drawn anew.

    Returns:
      {"serialized": string[size], "position": int64[size], in file order, "index":
      int64[size], the position in training, over all input hosts and epochs}.
    """
    begin, end = number * size, (number + 1) * size
    images = tf.range(begin, end)  # of this input host
    index = images * input_host.count + input_host.number
    epochs = tf.data.Dataset.range(
        index[0] // records.total, index[-1] // records.total + 1
    )

    def fill(*, suspect: bool) -> tf.data.Dataset:
        def part(epoch: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            low, high = _range_of_epoch(epoch, begin, end, input_host, records.total)
            order = _known_order(records, key, known)
            read = records.read(order, low, high, guarded=suspect, suspect=suspect)
            # Another key than the chunks': one key gives one sequence of numbers.
            return _shuffled(read, size, key + 1 + number)

        return epochs.flat_map(part)

    buffer = first_whole(lambda: fill(suspect=False), lambda: fill(suspect=True), size)
    shaped = {name: tf.ensure_shape(value, [size]) for name, value in buffer.items()}
    return {**shaped, "index": index}


def _known_order(records: Records, key: tf.Tensor, known: Known | None) -> tf.Tensor:
    """Return the order of an epoch's chunks, drawn only where it is not known."""
    if known is None:
        return _order_of_chunks(records, key)
    epoch, order = known
    return tf.cond(
        key[1] == epoch, lambda: order, lambda: _order_of_chunks(records, key)
    )


def _order_of_chunks(records: Records, key: tf.Tensor) -> tf.Tensor:
    """Return the chunks in a random order, int32[num_chunks]."""
    draws = tf.random.stateless_uniform([records.num_chunks], key)
    return tf.argsort(draws, stable=True)


def _range_of_epoch(
    epoch: tf.Tensor,
    begin: tf.Tensor,
    end: tf.Tensor,
    input_host: InputHost,
    total: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which records of an epoch's order are images begin..end-1 of a host."""
    first = input_host.share(epoch * total)
    past = input_host.share((epoch + 1) * total)
    low, high = tf.maximum(begin, first), tf.minimum(end, past)
    # Where this one's share of the epoch begins, among those of all.
    share_begin = input_host.before((epoch + 1) * total)
    share_begin -= input_host.before(epoch * total)
    return share_begin + low - first, share_begin + high - first


def _shuffled(elements: tf.data.Dataset, size: int, key: tf.Tensor) -> tf.data.Dataset:
    """Return at most `size` elements in a random order."""
    # In the graph of the function that calls this: a seed that the program sets
    # globally would otherwise change the order of Dataset.shuffle.
    tf.random.set_seed(1)
    draw = tf.random.stateless_uniform([2], key, 0, 2**31 - 1, tf.int64)
    return elements.shuffle(
        size,
        draw[0],  # pyright: ignore[reportArgumentType]  # the stub asks for an int
        reshuffle_each_iteration=False,
    )


def first_whole(
    sound: Callable[[], tf.data.Dataset],
    guarded: Callable[[], tf.data.Dataset],
    size: Any,
) -> Tensors:
    """Return `size` records as one batch, of the guarded ones if any is not sound.

    So there is a guard for every chunk only where something is wrong.
    """
    nothing = tf.data.Dataset.from_tensors(
        {"serialized": tf.zeros([0], tf.string), "position": tf.zeros([0], tf.int64)}
    )
    # Around all of it: the first error ends it. Else the other chunks would be read,
    # too, and each would wait for a storage that does not answer.
    whole = tf.data.Dataset.from_tensors(0).map(
        lambda _: sound().batch(size).get_single_element()
    )
    whole = whole.ignore_errors(log_warning=False).concatenate(nothing)
    batch = whole.take(1).get_single_element()
    return tf.cond(
        tf.size(batch["position"], tf.int64) == size,
        lambda: batch,
        lambda: guarded().batch(size).get_single_element(),
    )


def stream(
    records: Records,
    *,
    seed: int,
    start: int = 0,
    input_host: InputHost = ONLY_INPUT_HOST,
    shuffle_buffer: int = SHUFFLE_BUFFER,
) -> tf.data.Dataset:
    """Return the records of an input host, without end.

    Args:
      records: of the split.
      seed: of the order.
      start: how many records it has consumed already. The buffer that holds the next
        one is read again, nothing is decoded.
      input_host: which one of how many.
      shuffle_buffer: records of a buffer. A few of them are in memory at a time.

    Returns:
      A dataset of {"serialized": string, "position": int64, "index": int64}, see
      `read_buffer`.
    """
    chunks = records.chunks
    gcs_reads.warn_of_cost(records.folder, int(chunks.bytes.sum()), chunks.fetched)
    first, skipped = divmod(start, shuffle_buffer)

    @_as_it_is
    def with_order(known: Known, number: tf.Tensor) -> tuple[Known, Any]:
        """Hand on the order of the epoch that a buffer begins in, drawn once."""
        index = number * shuffle_buffer * input_host.count + input_host.number
        key = tf.stack([tf.constant(seed, tf.int64), index // records.total])
        known = key[1], _known_order(records, key, known)
        return known, (number, *known)

    nothing = tf.constant(-1, tf.int64), tf.zeros([records.num_chunks], tf.int32)
    numbers = tf.data.Dataset.range(first, _FOREVER).scan(nothing, with_order)
    buffers = numbers.map(
        lambda number, epoch, order: read_buffer(
            records,
            number,
            seed=seed,
            input_host=input_host,
            size=shuffle_buffer,
            known=(epoch, order),
        ),
        num_parallel_calls=_PARALLEL_BUFFERS,
        deterministic=True,
    )
    return buffers.unbatch().skip(skipped)
