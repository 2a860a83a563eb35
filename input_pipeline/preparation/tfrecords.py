"""TFRecords with ImageNet's fields that others wrote: counted, checked, described."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from common.errors import one_line
from input_pipeline import records, worker_pool
from input_pipeline.errors import DataError
from input_pipeline.preparation import description
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo

_NAME = re.compile(r"(\w+)-(\d{5})-of-(\d{5})")


@dataclasses.dataclass(frozen=True)
class _Survey:
    """One file, and the texts and synsets that its records give each label."""

    shard: ShardInfo
    texts: Mapping[int, frozenset[str]]
    synsets: Mapping[int, frozenset[str]]


def describe(
    source: str,
    *,
    label_offset: int,
    labels: str | None,
    workers: int,
    overwrite_info: bool = False,
) -> tuple[DatasetInfo, bool]:
    """Read all TFRecords of a folder once and write dataset_info.json beside them.

    Args:
      source: holds SPLIT-00000-of-00008 ... SPLIT-00007-of-00008, on a disk or in a
        bucket.
      label_offset: the label of the first class.
      labels: a text file of the classes' names, one a line. By default the records'
        own, or the labels themselves.
      workers: processes.
      overwrite_info: write dataset_info.json anew where it says something else.

    Returns:
      What was found, and whether it was written; it is not if it was there already.

    Raises:
      DataError: files that are missing, empty or damaged; records without an image or
        a label; labels that do not fit the offset and the names; a dataset_info.json
        that says something else.
    """
    splits = _find(source)
    paths = [
        tf.io.gfile.join(source, name)
        for of_split in splits.values()
        for name in of_split
    ]
    for path in (*paths, tf.io.gfile.join(source, records.INFO_FILENAME)):
        records.require_file(path)
    surveys = worker_pool.run(
        _survey, paths, workers=workers, total=len(paths), unit="files"
    )
    given = None if labels is None else _read_names(labels)
    seen = {label for survey in surveys for label in survey.texts}
    _check_range(seen, label_offset, given)
    remaining = iter(surveys)
    info = DatasetInfo(
        name=_name(source),
        label_offset=label_offset,
        label_names=given or _names(surveys, range(label_offset, max(seen) + 1)),
        splits={
            split: SplitInfo(tuple(next(remaining).shard for _ in of_split))
            for split, of_split in splits.items()
        },
    )
    return info, description.write_once(info, source, overwrite=overwrite_info)


def _name(source: str) -> str:
    """Return the folder's own name, also where it is called "."."""
    path = source.rstrip("/") if "://" in source else os.path.abspath(source)
    return os.path.basename(path) or "tfrecords"


def _find(source: str) -> dict[str, list[str]]:
    """Return the file names of each split in order; a DataError if some are missing."""
    if not tf.io.gfile.isdir(source):
        raise DataError(f"there is no folder {source}: name one with --source")
    found: dict[str, set[str]] = {}
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(source))
    for split, _, count in (m.groups() for m in map(_NAME.fullmatch, names) if m):
        found.setdefault(split, set()).add(count)
    if not found:
        raise DataError(
            f"{source} holds no TFRecords named like train-00000-of-01024: rename them "
            "so, the split's name first"
        )
    return {
        split: _all_of(split, counts, set(names), source)
        for split, counts in found.items()
    }


def _all_of(split: str, counts: set[str], names: set[str], source: str) -> list[str]:
    if len(counts) > 1:
        raise DataError(
            f"{source} holds files of several sets named {split}, of "
            f"{' and of '.join(sorted(counts))}: move all but one set elsewhere"
        )
    (count,) = counts
    expected = [f"{split}-{shard:05d}-of-{count}" for shard in range(int(count))]
    if missing := [name for name in expected if name not in names]:
        raise DataError(
            f"{source} lacks {len(missing)} of {len(expected)} {split} files "
            f"(the first is {missing[0]}): copy them there"
        )
    return expected


def _survey(path: str, advance: worker_pool.Advance) -> _Survey:
    """Read one file, checking every CRC and what training needs of every record."""
    texts: dict[int, set[str]] = {}
    synsets: dict[int, set[str]] = {}
    count = 0

    def inspect(content: bytes) -> None:
        nonlocal count
        label, text, synset = _fields(content, f"{path}, record {count}")
        texts.setdefault(label, set()).add(text)
        synsets.setdefault(label, set()).add(synset)
        count += 1

    try:
        shard = records.index_shard(path, inspect)
    except tf.errors.OpError as error:
        raise DataError(f"cannot read {path}: {one_line(error)}") from None
    if not count:
        raise DataError(f"{path} is empty: copy or prepare it again")
    advance(1)
    return _Survey(shard, _frozen(texts), _frozen(synsets))


def _frozen(words: dict[int, set[str]]) -> dict[int, frozenset[str]]:
    return {label: frozenset(of_label) for label, of_label in words.items()}


def _fields(content: bytes, where: str) -> tuple[int, str, str]:
    """Read label, text and synset of a record; a DataError where it is bad."""
    try:
        features = tf.train.Example.FromString(content).features.feature
    except Exception:  # protobuf's DecodeError, which TensorFlow does not re-export
        raise DataError(
            f"{where} is not a tf.train.Example: write the file again"
        ) from None
    labels = features["image/class/label"].int64_list.value
    if len(labels) != 1:
        raise DataError(f"{where}: the field image/class/label is missing (one int64)")
    if not any(features["image/encoded"].bytes_list.value):
        raise DataError(f"{where}: the field image/encoded is missing or empty")
    text, synset = (
        b"".join(features[f"image/class/{name}"].bytes_list.value[:1])
        for name in ("text", "synset")
    )
    return (
        labels[0],
        text.decode("utf-8", "backslashreplace"),
        synset.decode("utf-8", "backslashreplace"),
    )


def _read_names(path: str) -> tuple[str, ...]:
    try:
        with tf.io.gfile.GFile(path) as file:
            names = tuple(line.strip() for line in file.read().splitlines())
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot read {path}: {one_line(error)}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it so") from None
    if not names or not all(names):
        raise DataError(f"{path} must hold one class name a line, and no empty line")
    return names


def _check_range(seen: set[int], offset: int, names: Sequence[str] | None) -> None:
    """Raise a DataError if a label is outside; it says which offset would do."""
    least, most = min(seen), max(seen)
    last = most if names is None else offset + len(names) - 1
    if offset <= least and most <= last:
        return
    classes = f"{offset} and up" if names is None else f"{offset} to {last}"
    fits = names is None or most - least < len(names)
    advice = f"--label_offset {least}" if fits else "a file of more names to --labels"
    raise DataError(
        f"the records hold labels {least} to {most}, but --label_offset {offset} "
        f"allows {classes}: give {advice}"
    )


def _names(surveys: Sequence[_Survey], labels: range) -> tuple[str, ...]:
    """Return the records' texts or synsets, if each label has one; else the labels."""
    for every in ([s.texts for s in surveys], [s.synsets for s in surveys]):
        merged: dict[int, set[str]] = {}
        for label, words in ((k, v) for of_file in every for k, v in of_file.items()):
            merged.setdefault(label, set()).update(words)
        if all(len(words) == 1 and "" not in words for words in merged.values()):
            return tuple(min(merged.get(label, {str(label)})) for label in labels)
    return tuple(str(label) for label in labels)
