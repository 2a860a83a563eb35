"""All records of TFRecords that others wrote, read once."""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from common import storage_errors
from input_pipeline import records, worker_pool
from input_pipeline.errors import DataError
from input_pipeline.preparation import record_content
from input_pipeline.records import Fields, ShardInfo

NAME_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Survey:
    """One file, and what its records hold.

    Attributes:
      shard: the file, named as in its folder or the folders in it.
      counts: images of each label.
      texts: what the records call each label.
      synsets: likewise.
      no_jpegs: how many images are none.
      no_jpeg: where the first of them is, and what.
      labels: int64[n], of its records in order.
      sizes: int64[n], likewise, in bytes.
      names: of its records, NAME_BYTES each, if they were asked for: the begin of a
        digest of each.
    """

    shard: ShardInfo
    counts: Mapping[int, int]
    texts: Mapping[int, frozenset[str]]
    synsets: Mapping[int, frozenset[str]]
    no_jpegs: int
    no_jpeg: str
    labels: np.ndarray
    sizes: np.ndarray
    names: bytes


Surveys = Mapping[str, Sequence[Survey]]  # by split


class _Task(NamedTuple):
    folder: str
    name: str
    fields: Fields
    names_records: bool


def survey(
    folder: str,
    splits: Mapping[str, Sequence[str]],
    fields: Fields,
    *,
    workers: int,
    names_records: bool = False,
) -> dict[str, list[Survey]]:
    """Read the files of each split, checking every CRC and what training needs.

    Args:
      folder: of the files.
      splits: the names of each split's files.
      fields: of the records.
      workers: processes.
      names_records: whether to make names for the records, by which each is known.

    Raises:
      DataError: a file is damaged, empty or no TFRecord; a record has no image, or no
        label.
    """
    tasks = [
        _Task(folder, name, fields, names_records)
        for of_split in splits.values()
        for name in of_split
    ]
    found = iter(
        worker_pool.run(_survey, tasks, workers=workers, total=len(tasks), unit="files")
    )
    return {split: [next(found) for _ in names] for split, names in splits.items()}


def record_name(content: bytes) -> bytes:
    """Return what tells a record from any other: NAME_BYTES of a digest."""
    return hashlib.blake2b(content, digest_size=NAME_BYTES).digest()


class _Tally:
    """What the records of a file hold, which pass by once."""

    def __init__(self, task: _Task, path: str):
        self._task, self._path = task, path
        self.texts: dict[int, set[str]] = {}
        self.synsets: dict[int, set[str]] = {}
        self.no_jpegs: list[str] = []
        self.labels: list[int] = []
        self.sizes: list[int] = []
        self.names: list[bytes] = []

    def add(self, content: bytes) -> None:
        """Look at the next record."""
        where = f"{self._path}, record {len(self.labels)}"
        found = record_content.record(content, self._task.fields, where)
        self.labels.append(found.label)
        self.sizes.append(len(content))
        self.texts.setdefault(found.label, set()).add(found.text)
        self.synsets.setdefault(found.label, set()).add(found.synset)
        if found.image:
            self.no_jpegs.append(f"{found.image} ({where})")
        if self._task.names_records:
            self.names.append(record_name(content))

    def survey(self, shard: ShardInfo) -> Survey:
        """Return what is to be said of the file."""
        return Survey(
            dataclasses.replace(shard, filename=self._task.name),
            collections.Counter(self.labels),
            _frozen(self.texts),
            _frozen(self.synsets),
            len(self.no_jpegs),
            self.no_jpegs[0] if self.no_jpegs else "",
            np.array(self.labels, np.int64),
            np.array(self.sizes, np.int64),
            b"".join(self.names),
        )


def _survey(task: _Task, advance: worker_pool.Advance) -> Survey:
    path = tf.io.gfile.join(task.folder, task.name)
    tally = _Tally(task, path)
    try:
        shard = records.index_shard(path, tally.add)
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(path, error, mistake=DataError) from None
    except DataError:
        if not tally.labels:
            record_content.refuse_other_format(path)
        raise
    if not tally.labels:
        raise DataError(f"{path} is empty: copy or prepare it again")
    advance(1)
    return tally.survey(shard)


def _frozen(words: dict[int, set[str]]) -> dict[int, frozenset[str]]:
    return {label: frozenset(of_label) for label, of_label in words.items()}
