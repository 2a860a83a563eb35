"""Records in file order: all of them once, as evaluation and export read them.

From a disk they are read in chunks, as in training. In a bucket a file is read in one
go, from its first byte on: that takes a fraction of the requests, and never a byte
twice, however large TensorFlow's buffer is (`common.gcs_reads`).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from input_pipeline.chunks import Tensors, sound_chunk
from input_pipeline.records import CHUNK_RECORDS, FRAMING
from input_pipeline.stream import ONLY_INPUT_HOST, InputHost, Records, first_whole

# What is read of one file in one go, and of all files at a time; twice as much memory
# is taken. The first is above what ImageNet's files have, 138 MB.
_RUN_BYTES = 160 << 20
_RUNS_BYTES = 512 << 20


def finite(
    records: Records, *, input_host: InputHost = ONLY_INPUT_HOST
) -> tf.data.Dataset:
    """Return an input host's share once, in file order.

    Elements are those of `stream.stream`.
    """
    hosts = [InputHost(n, input_host.count) for n in range(input_host.number + 1)]
    *before, share = (host.share(records.total) for host in hosts)
    begin, end = sum(before), sum(before) + share
    if records.in_bucket:
        elements = _in_runs(records, begin, end)
    else:
        # Inside a function: see chunks.file_from.
        bounds = tf.data.Dataset.from_tensors(tf.constant([begin, end], tf.int64))
        elements = bounds.flat_map(lambda at: records.read(None, at[0], at[1]))
    return elements.map(lambda record: {**record, "index": record["position"]})


def _in_runs(records: Records, begin: int, end: int) -> tf.data.Dataset:
    """Read records begin..end-1 of a split, several runs at a time."""
    runs, at_a_time = _runs(records, begin, end)

    # Nothing here is written for AutoGraph, and to convert it takes seconds.
    @tf.autograph.experimental.do_not_convert
    def read(bounds: tf.Tensor) -> Tensors:
        begin, end = tf.unstack(bounds)

        def sound() -> tf.data.Dataset:
            run = tf.data.Dataset.from_tensors(bounds).map(
                lambda bounds: _read_run(records, *tf.unstack(bounds))
            )
            return run.unbatch()

        return first_whole(
            sound, lambda: records.read(None, begin, end, suspect=True), end - begin
        )

    elements = tf.data.Dataset.from_tensor_slices(runs).map(
        read, num_parallel_calls=at_a_time, deterministic=True
    )
    return elements.unbatch()


def _runs(records: Records, begin: int, end: int) -> tuple[np.ndarray, int]:
    """Cut a range of positions where a file ends, or has too much for one go.

    Returns:
      (int64[N, 2], the first position of each run and that behind its last; how many
      to read at a time).
    """
    chunks = records.chunks
    run = np.stack([chunks.shard, chunks.offset // _RUN_BYTES])
    first = np.flatnonzero(np.diff(run, prepend=-1).any(0))  # chunk of each run
    cuts = np.unique(np.clip([begin, *chunks.position[first], end], begin, end))
    largest = np.add.reduceat(chunks.bytes, first).max(initial=1)
    at_a_time = max(1, min(_RUNS_BYTES // largest, records.parallel_chunks))
    return np.stack([cuts[:-1], cuts[1:]], 1).astype(np.int64), int(at_a_time)


def _read_run(records: Records, begin: tf.Tensor, end: tf.Tensor) -> Tensors:
    """Read records begin..end-1 of one file, from the begin of a chunk on.

    Raises:
      InvalidArgumentError, or what reading raises: something is not as
        dataset_info.json says.
    """
    chunks = records.chunks
    bounds = tf.stack([begin, end - 1])
    first, last = tf.unstack(
        tf.cast(tf.searchsorted(chunks.position, bounds, side="right"), tf.int64) - 1
    )
    position = tf.gather(chunks.position, first)
    stop = tf.gather(chunks.position + chunks.size, last)
    run: Any = {
        **records.located(first),
        "bytes": tf.reduce_sum(tf.gather(chunks.bytes, tf.range(first, last + 1))),
        "position": position,
        "skip": 0,
        "count": end - position,
        "is_end": tf.gather(chunks.is_last, last) & (end == stop),
    }
    read = sound_chunk(run)
    # Each chunk begins where it has to, as if it were read by itself.
    sizes = tf.strings.length(read["serialized"]) + FRAMING
    begins = run["offset"] + tf.cumsum(tf.cast(sizes, tf.int64), exclusive=True)
    known = tf.gather(chunks.offset, tf.range(first, last + 1))
    as_known = tf.reduce_all(begins[::CHUNK_RECORDS] == known)
    with tf.control_dependencies([tf.debugging.Assert(as_known, ["other sizes"])]):
        return {name: value[begin - position :] for name, value in read.items()}
