"""All records of TFRecords that others wrote, read once."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from common.errors import first_line
from input_pipeline import records, worker_pool
from input_pipeline.errors import DataError
from input_pipeline.preparation import record_content
from input_pipeline.records import Fields, ShardInfo


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
    """

    shard: ShardInfo
    counts: Mapping[int, int]
    texts: Mapping[int, frozenset[str]]
    synsets: Mapping[int, frozenset[str]]
    no_jpegs: int
    no_jpeg: str


Surveys = Mapping[str, Sequence[Survey]]  # by split


class _Task(NamedTuple):
    folder: str
    name: str
    fields: Fields


def survey(
    folder: str,
    splits: Mapping[str, Sequence[str]],
    fields: Fields,
    *,
    workers: int,
) -> dict[str, list[Survey]]:
    """Read the files of each split, checking every CRC and what training needs.

    Raises:
      DataError: a file is damaged, empty or no TFRecord; a record has no image, or no
        label.
    """
    tasks = [
        _Task(folder, name, fields) for of_split in splits.values() for name in of_split
    ]
    found = iter(
        worker_pool.run(_survey, tasks, workers=workers, total=len(tasks), unit="files")
    )
    return {split: [next(found) for _ in names] for split, names in splits.items()}


def _survey(task: _Task, advance: worker_pool.Advance) -> Survey:
    path = tf.io.gfile.join(task.folder, task.name)
    counts: collections.Counter[int] = collections.Counter()
    texts: dict[int, set[str]] = {}
    synsets: dict[int, set[str]] = {}
    no_jpegs: list[str] = []
    number = 0

    def inspect(content: bytes) -> None:
        nonlocal number
        where = f"{path}, record {number}"
        number += 1
        found = record_content.record(content, task.fields, where)
        counts[found.label] += 1
        texts.setdefault(found.label, set()).add(found.text)
        synsets.setdefault(found.label, set()).add(found.synset)
        if found.image:
            no_jpegs.append(f"{found.image} ({where})")

    try:
        shard = records.index_shard(path, inspect)
    except tf.errors.OpError as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from None
    except DataError:
        if not counts:
            record_content.refuse_other_format(path)
        raise
    if not counts:
        raise DataError(f"{path} is empty: copy or prepare it again")
    advance(1)
    return Survey(
        dataclasses.replace(shard, filename=task.name),
        counts,
        _frozen(texts),
        _frozen(synsets),
        len(no_jpegs),
        no_jpegs[0] if no_jpegs else "",
    )


def _frozen(words: dict[int, set[str]]) -> dict[int, frozenset[str]]:
    return {label: frozenset(of_label) for label, of_label in words.items()}
