"""The record stream: which record comes when, on which host.

The order is a pure function of (seed, epoch): the shards are shuffled, read in turns,
and their records pass a seeded shuffle buffer. Epochs follow one another and each holds
every record once. Of this global order host h of n receives the positions h, h + n,
h + 2n, ...; so a position alone says where to resume, on any number of hosts.
"""

import tensorflow as tf

from input_pipeline.records import DatasetInfo, SplitInfo, shard_path

# Part of the order: another value is another stream.
_OPEN_FILES = 16
_FOREVER = tf.int64.max


def stream(
    info: DatasetInfo,
    data_dir: str,
    split: str,
    *,
    seed: int,
    start: int = 0,
    num_hosts: int = 1,
    host: int = 0,
    shuffle_buffer: int = 10_000,
) -> tf.data.Dataset:
    """This host's records, without end.

    Args:
      info: of the dataset in `data_dir`.
      data_dir: the folder of the TFRecord files.
      split: a name in `info.splits`.
      seed: of the order.
      start: how many records this host has consumed already; they are skipped, raw.
      num_hosts: how many hosts share the stream.
      host: which of them this one is, from 0.
      shuffle_buffer: records held in memory to shuffle; larger mixes better.

    Returns:
      A dataset of {"serialized": string, "file": string, "record": int64, the place in
      the file, "index": int64, the position since the beginning of training}.
    """
    _check_host(num_hosts, host)
    shards = info.split(split)
    position = start * num_hosts + host
    first_epoch, done = divmod(position, shards.total)

    def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
        return _epoch(shards, data_dir, seed, epoch, shuffle_buffer)

    records = tf.data.Dataset.range(first_epoch, _FOREVER).flat_map(epoch_records)
    records = records.enumerate(first_epoch * shards.total).skip(done)
    return records.shard(num_hosts, 0).map(_with_index)


def finite(
    info: DatasetInfo,
    data_dir: str,
    split: str,
    *,
    num_hosts: int = 1,
    host: int = 0,
) -> tf.data.Dataset:
    """This host's records once, in file order; elements as in `stream`."""
    _check_host(num_hosts, host)
    files = tf.data.Dataset.from_tensors(_files(info.split(split), data_dir)).unbatch()
    records = files.flat_map(_file_records).enumerate()
    return records.shard(num_hosts, host).map(_with_index)


def host_share(total: int, num_hosts: int, host: int) -> int:
    """How many of `total` positions are this host's."""
    return (total - host + num_hosts - 1) // num_hosts


def _check_host(num_hosts: int, host: int) -> None:
    if not 0 <= host < num_hosts:
        raise ValueError(f"host {host} is not one of {num_hosts} hosts counted from 0")


def _files(split: SplitInfo, data_dir: str) -> dict[str, tf.Tensor]:
    counts = [shard.records for shard in split.shards]
    return {
        "path": tf.constant([shard_path(data_dir, shard) for shard in split.shards]),
        "count": tf.constant(counts, tf.int64),
    }


def _file_records(file: dict[str, tf.Tensor]) -> tf.data.Dataset:
    """One file's records; an error if they are not as many as dataset_info.json says.

    A file that lost records would shift every later position, silently.
    """
    path = file["path"]
    records = tf.data.TFRecordDataset(path, buffer_size=1 << 20)
    records = records.apply(tf.data.experimental.assert_cardinality(file["count"]))

    def named(record: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"serialized": serialized, "file": path, "record": record}

    return records.enumerate().map(named)


def _epoch(
    split: SplitInfo,
    data_dir: str,
    seed: int,
    epoch: tf.Tensor,
    shuffle_buffer: int,
) -> tf.data.Dataset:
    """Every record of the split once, in the order of this epoch."""
    # In this function's own graph: a seed that the program sets globally would
    # otherwise change the order of Dataset.shuffle.
    tf.random.set_seed(1)
    key = tf.stack([tf.constant(seed, tf.int64), epoch])
    order = tf.argsort(tf.random.stateless_uniform([len(split.shards)], key))
    shuffled = {k: tf.gather(v, order) for k, v in _files(split, data_dir).items()}
    records = (
        tf.data.Dataset.from_tensors(shuffled)
        .unbatch()
        .interleave(
            _file_records,
            cycle_length=min(_OPEN_FILES, len(split.shards)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )
    # Another key than the shards': one key gives one sequence of numbers.
    buffer_seed = tf.random.stateless_uniform([], key + 1, 0, 2**31 - 1, tf.int64)
    return records.shuffle(
        min(shuffle_buffer, split.total),
        buffer_seed,  # pyright: ignore[reportArgumentType]  # the stub asks for an int
        reshuffle_each_iteration=False,
    )


def _with_index(index: tf.Tensor, record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {**record, "index": index}
