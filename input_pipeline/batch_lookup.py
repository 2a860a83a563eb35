"""Which records a batch of training was made of, to look at them afterwards."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from common import gfiles, storage_errors
from input_pipeline.chunks import UNCOUNTED, UNREADABLE, Tensors
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.errors import DataError
from input_pipeline.records import parse, write_shard
from input_pipeline.stream import InputHost, Records, stream

DUMP = "records.tfrecord"

_FAULTS = {
    UNREADABLE: "cannot be read",
    UNCOUNTED: "more records follow than dataset_info.json counts",
}
_NO_LABEL = "has no label that dataset_info.json knows"


@dataclasses.dataclass(frozen=True)
class BatchRecord:
    """One record of a training batch.

    Attributes:
      file: its path.
      number: of the record in this file, from 0.
      index: its position in training, over all input hosts and epochs; with the run's
        seed it gives the crop and the augmentation.
      label: from 0, None where there is a fault.
      label_name: of that label.
      fault: what keeps the record from being an example, None in general. Whether its
        image decodes is not looked at.
      serialized: as training got it; for what cannot be read, what stands in for it.
    """

    file: str
    number: int
    index: int
    label: int | None
    label_name: str | None
    fault: str | None
    serialized: bytes


def records_of_batch(
    info: DatasetInfo,
    data_dir: str,
    split: str,
    *,
    seed: int,
    shuffle_buffer: int,
    batch: int,
    batch_size: int,
    num_hosts: int = 1,
    host: int = 0,
) -> list[BatchRecord]:
    """Read again what made up a batch of `dataset.train_dataset`.

    Args:
      info: of the data set.
      data_dir: its folder, on a disk or in a bucket.
      split: as training had it, like all that follows.
      seed: of the order.
      shuffle_buffer: records that are shuffled at a time.
      batch: which one, from 0 at the start of training.
      batch_size: of this input host.
      num_hosts: how many input hosts share the data.
      host: which of them this one is, from 0.

    Returns:
      The `batch_size` records in the order of the batch.

    Raises:
      DataError: `info` has no such split.
    """
    records = Records(info, data_dir, split)

    def with_location(element: Tensors) -> Tensors:
        file, number = records.location(element["position"])
        return {**element, "file": file, "number": number}

    elements = stream(
        records,
        seed=seed,
        start=batch * batch_size,
        input_host=InputHost(host, num_hosts),
        shuffle_buffer=shuffle_buffer,
    )
    located = elements.take(batch_size).map(with_location)
    return [_describe(element, info) for element in located.as_numpy_iterator()]


def dump(records: Sequence[BatchRecord], folder: str) -> list[dict[str, Any]]:
    """Write the records as they are to `folder`/records.tfrecord.

    Returns:
      A row for JSON of each, in the same order: all attributes but the bytes.

    Raises:
      DataError: the file cannot be written.
    """
    path = tf.io.gfile.join(folder, DUMP)
    try:
        gfiles.make_folders(folder)
        write_shard(path, [record.serialized for record in records])
    except tf.errors.OpError as error:
        raise storage_errors.cannot_write(path, error, mistake=DataError) from error
    rows = [dict(vars(record)) for record in records]
    for row in rows:
        del row["serialized"]
    return rows


def _describe(element: Any, info: DatasetInfo) -> BatchRecord:
    """Make a record of an element of the stream that knows its file."""
    serialized = bytes(element["serialized"])
    label = _label(serialized, info)
    fault = _FAULTS.get(serialized, _NO_LABEL if label is None else None)
    return BatchRecord(
        file=element["file"].decode(),
        number=int(element["number"]),
        index=int(element["index"]),
        label=label,
        label_name=None if label is None else info.label_names[label],
        fault=fault,
        serialized=serialized,
    )


def _label(serialized: bytes, info: DatasetInfo) -> int | None:
    """Return the label from 0, None where training would not take it."""
    try:
        example = parse(tf.constant(serialized), info.fields)
        label = int(example["label"]) - info.label_offset
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return None  # it is no example; TensorFlow quotes it, as if it were text
    return label if 0 <= label < len(info.label_names) else None
