"""TFRecords that others wrote: found, counted, checked, described; never copied."""

import collections
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from common import gfiles
from common.console import count, escaped
from input_pipeline import records
from input_pipeline.errors import DataError
from input_pipeline.preparation import (
    class_names,
    description,
    record_content,
    record_files,
    tfds,
)
from input_pipeline.preparation.record_files import RecordFiles, command
from input_pipeline.preparation.record_survey import Survey, survey
from input_pipeline.preparation.tfds import TfdsInfo
from input_pipeline.records import INFO_FILENAME, DatasetInfo, Fields, SplitInfo

_NO_LABEL = -1  # as TensorFlow Datasets has it in test sets
_MOST_CLASSES = 1_000_000  # more are no classes, but numbers of images

Surveys = Mapping[str, Sequence[Survey]]  # by split


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder of TFRecords, and what a person says of them.

    Attributes:
      folder: on a disk or in a bucket.
      splits: patterns of the files of each split; by default their names tell.
      image_field: the feature that holds the image; by default it is looked for.
      label_field: that of the label, likewise.
      label_offset: the label of the first class; by default 1 as in ImageNet, 0 in
        what TensorFlow Datasets wrote.
      labels: a text file of the classes' names, one a line. By default those of
        TensorFlow Datasets, the records' own, or the labels themselves.
    """

    folder: str
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_field: str | None = None
    label_field: str | None = None
    label_offset: int | None = None
    labels: str | None = None


class Description(NamedTuple):
    """What was found.

    Attributes:
      info: as dataset_info.json says it.
      is_new: whether that was written.
      images: of each class, by split.
      notes: what a person should know of it, a line each.
    """

    info: DatasetInfo
    is_new: bool
    images: Mapping[str, Sequence[int]]
    notes: Sequence[str]


def describe(
    source: Source,
    *,
    output: str | None = None,
    workers: int,
    overwrite_info: bool = False,
) -> Description:
    """Read all TFRecords of a folder once and write dataset_info.json.

    Args:
      source: the TFRecords.
      output: the folder to write it in, made if need be; by default beside them.
      workers: processes.
      overwrite_info: write dataset_info.json anew where it says something else.

    Raises:
      DataError: files that are missing, empty, damaged or no TFRecords; records without
        an image or a label; labels that do not fit the offset and the names; a
        dataset_info.json that says something else, or is not ours.
    """
    folder = source.folder
    theirs = tfds.read(folder)
    output = _output(output, folder)
    found = _find(source, theirs)
    for name in (name for names in found.splits.values() for name in names):
        records.require_file(tf.io.gfile.join(folder, name))
    fields = _fields(source, theirs, found.splits)
    notes = list(found.notes)
    names = _Names.of(source, theirs, fields.label, notes)
    gfiles.make_folder(output)
    surveys: Surveys = survey(folder, found.splits, fields, workers=workers)
    if theirs:
        _check_lengths(surveys, theirs, folder)
    surveys = _labelled(surveys, notes)
    info = DatasetInfo(
        name=theirs.name if theirs else _name(folder),
        label_offset=names.offset,
        label_names=names.of_classes(surveys, folder),
        splits={
            split: SplitInfo(tuple(one.shard for one in of_split))
            for split, of_split in surveys.items()
        },
        fields=fields,
        records_dir=_records_dir(folder, output, found.splits),
    )
    notes += _notes(surveys, info)
    is_new = description.write_once(info, output, overwrite=overwrite_info)
    return Description(info, is_new, _images(surveys, info), notes)


def _images(surveys: Surveys, info: DatasetInfo) -> dict[str, list[int]]:
    """Return the number of images of each class, in order, by split."""
    labels = range(info.label_offset, info.label_offset + len(info.label_names))
    return {
        split: [sum(one.counts.get(label, 0) for one in of_split) for label in labels]
        for split, of_split in surveys.items()
    }


def _name(source: str) -> str:
    """Return the folder's own name, also where it is called "."."""
    path = source.rstrip("/") if "://" in source else os.path.abspath(source)
    return os.path.basename(path) or "tfrecords"


def _output(output: str | None, source: str) -> str:
    """Return where to write; a DataError where another tool's description is."""
    output = source if output is None else output
    path = tf.io.gfile.join(output, INFO_FILENAME)
    records.require_file(path)
    if content := tfds.foreign_info(output):
        if _is_same(output, source):
            records.require_ours(content, source)
        raise DataError(f"{path} is another tool's: choose another folder for --output")
    return output


def _is_same(output: str, source: str) -> bool:
    one, other = (gfiles.local_path(path) for path in (output, source))
    if one is None or other is None:
        return output.rstrip("/") == source.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)


def _records_dir(source: str, output: str, splits: Mapping[str, Sequence[str]]) -> str:
    """Return what dataset_info.json is to say; relative as the source was given."""
    if _is_same(output, source):
        deeper = any("/" in name for names in splits.values() for name in names)
        return "." if deeper else ""
    if gfiles.local_path(source) is None:
        return source
    if os.path.isabs(source) or gfiles.local_path(output) is None:
        return os.path.abspath(source)
    return os.path.relpath(os.path.realpath(source), os.path.realpath(output))


def _find(source: Source, theirs: TfdsInfo | None) -> RecordFiles:
    if source.splits:
        return record_files.choose(source.folder, source.splits)
    if theirs:
        return _find_theirs(source.folder, theirs)
    found = record_files.find(source.folder)
    names = [name for of_split in found.splits.values() for name in of_split]
    for below in sorted({os.path.dirname(name) for name in names} - {""}, reverse=True):
        path = tf.io.gfile.join(source.folder, below)
        if gfiles.exists(tf.io.gfile.join(path, INFO_FILENAME)):
            flags = ["--output=OUT"] if tfds.foreign_info(path) else []
            raise DataError(
                f"{path} has a {INFO_FILENAME} of its own: {command(path, *flags)}"
            )
    return found


def _find_theirs(folder: str, theirs: TfdsInfo) -> RecordFiles:
    """Return the files that TensorFlow Datasets lists, all of them."""
    there = set(record_files.list_files(folder))
    whole = [split for split, names in theirs.splits.items() if there >= set(names)]
    for split, names in theirs.splits.items():
        if missing := [name for name in names if name not in there]:
            flags = record_files.flags({one: f"*-{one}.*" for one in whole})
            rest = f", or take the rest, {flags}"
            raise DataError(
                f"{folder} lacks {len(missing)} of {len(names)} {split} files (the "
                f"first is {missing[0]}): copy them there{rest if whole else ''}"
            )
    listed = {name for names in theirs.splits.values() for name in names}
    rest = [name for name in record_files.record_names(folder) if name not in listed]
    splits = {split: tuple(names) for split, names in theirs.splits.items() if names}
    if not splits:
        raise DataError(f"{folder}/{INFO_FILENAME} lists no files: build it again")
    return RecordFiles(splits, record_files.left_out(rest))


def _fields(
    source: Source, theirs: TfdsInfo | None, splits: Mapping[str, Sequence[str]]
) -> Fields:
    """Return the fields of all splits, by the first records of each."""
    image, label = source.image_field, source.label_field
    if theirs:
        image, label = image or theirs.image, label or theirs.label
    found: dict[str, Fields] = {}
    for split, names in splits.items():
        path = tf.io.gfile.join(source.folder, names[0])
        first = record_content.peek(path)
        try:
            found[split] = record_content.find_fields(
                first, path, image=image, label=label
            )
        except record_content.NoLabelError as error:
            raise DataError(f"{error}{_without(split, splits)}") from None
    fields = next(iter(found.values()))
    for split, other in found.items():
        if (other.image, other.label) != (fields.image, fields.label):
            raise DataError(
                f"{source.folder}: {split} has the fields {other.image} and "
                f"{other.label}, {next(iter(found))} has {fields.image} and "
                f"{fields.label}: describe only what has the same, by --split"
            )
    return fields


def _without(split: str, splits: Mapping[str, Sequence[str]]) -> str:
    """Return how to leave a split out, where there are others."""
    rest = {
        other: record_files.set_of(names[0])
        for other, names in splits.items()
        if other != split
    }
    return f"; or leave {split} out, {record_files.flags(rest)}" if rest else ""


@dataclasses.dataclass(frozen=True)
class _Names:
    """The classes' names that somebody has given, if so, and the first one's label."""

    offset: int
    given: tuple[str, ...] | None
    path: str
    notes: list[str]

    @classmethod
    def of(
        cls, source: Source, theirs: TfdsInfo | None, label: str, notes: list[str]
    ) -> "_Names":
        """Read them, which is done before all records are."""
        offset = source.label_offset
        if offset is None:
            offset = 0 if theirs else 1
        path, plain = source.labels, False
        if path is None and theirs:
            path, plain = tfds.labels_file(source.folder, label), True
        if path is None:
            return cls(offset, None, "", notes)
        given = class_names.read(path, first=offset, note=notes.append, plain=plain)
        return cls(offset, given, path, notes)

    def of_classes(self, surveys: Surveys, folder: str) -> tuple[str, ...]:
        """Return a name for each class; a DataError where the labels do not fit."""
        every = [one for of_split in surveys.values() for one in of_split]
        seen = {label for one in every for label in one.counts}
        labels = range(self.offset, max(self.offset, *seen) + 1)
        _check_numbers(every, labels, folder)
        given = self.given and class_names.for_labels(
            self.given, labels, self.path, self.notes.append
        )
        _check_range(seen, self.offset, given)
        return given or _names(every, labels)


def _check_lengths(surveys: Surveys, theirs: TfdsInfo, folder: str) -> None:
    lengths = {k: n for names in theirs.splits.values() for k, n in names.items()}
    for one in (one for of_split in surveys.values() for one in of_split):
        listed = lengths.get(one.shard.filename)
        if listed not in (None, one.shard.records):
            raise DataError(
                f"{tf.io.gfile.join(folder, one.shard.filename)} holds "
                f"{count(one.shard.records, 'record')}, where {INFO_FILENAME} of "
                f"TensorFlow Datasets says {listed:,}: copy or build it again"
            )


def _labelled(surveys: Surveys, notes: list[str]) -> Surveys:
    """Return the splits without those whose records all say that they have no label."""
    without = [
        split
        for split, of_split in surveys.items()
        if {label for one in of_split for label in one.counts} == {_NO_LABEL}
    ]
    if len(without) == len(surveys):
        return surveys
    for split in without:
        total = sum(one.shard.records for one in surveys[split])
        notes.append(
            f"{split} is left out: its {count(total, 'record')} have the label "
            f"{_NO_LABEL}, which is none"
        )
    return {split: one for split, one in surveys.items() if split not in without}


def _check_numbers(surveys: Sequence[Survey], labels: range, folder: str) -> None:
    """Raise a DataError where labels number no classes."""
    for one in surveys:
        path = tf.io.gfile.join(folder, one.shard.filename)
        if (least := min(one.counts)) < 0:
            raise DataError(
                f"{path} holds the label {least}, and below 0 is no class "
                f"({_NO_LABEL} often says that there is none): leave such records out"
            )
        if len(labels) > _MOST_CLASSES and max(one.counts) == labels[-1]:
            raise DataError(
                f"{path} holds the label {labels[-1]:,}, which numbers no class, but "
                "an image perhaps: name another field with --label_field, or write the "
                "records again with classes from 0 on"
            )


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


def _names(surveys: Sequence[Survey], labels: range) -> tuple[str, ...]:
    """Return the records' texts or synsets, if each label has one; else the labels."""
    texts, synsets = (
        _merged(of_file)
        for of_file in ([s.texts for s in surveys], [s.synsets for s in surveys])
    )
    for words in (texts, synsets):
        if all(
            len(of_label) == 1 and "" not in of_label for of_label in words.values()
        ):
            found = [min(words.get(label, {str(label)})) for label in labels]
            return _distinct([escaped(name) for name in found], labels, synsets)
    return tuple(str(label) for label in labels)


def _merged(words: Sequence[Mapping[int, frozenset[str]]]) -> dict[int, set[str]]:
    merged: dict[int, set[str]] = {}
    for label, of_label in (item for of_file in words for item in of_file.items()):
        merged.setdefault(label, set()).update(of_label)
    return merged


def _distinct(
    names: Sequence[str], labels: range, synsets: Mapping[int, set[str]]
) -> tuple[str, ...]:
    """Return the names, with more where two are equal: ImageNet has cranes twice."""
    counts = collections.Counter(names)
    numbers = [str(label) for label in labels]
    words = [" ".join(sorted(synsets.get(label, ()))) for label in labels]
    for more in (words, numbers):
        found = tuple(
            name if counts[name] == 1 else f"{name} ({escaped(which)})"
            for name, which in zip(names, more, strict=True)
        )
        if len(set(found)) == len(found) and all(more):
            return found
    return tuple(numbers)


def _notes(surveys: Surveys, info: DatasetInfo) -> Iterator[str]:
    """Yield what is odd, and may be meant."""
    every = [one for of_split in surveys.values() for one in of_split]
    if odd := [one for one in every if one.no_jpegs]:
        number = sum(one.no_jpegs for one in odd)
        yield (
            f"{count(number, 'image')} of {sum(one.shard.records for one in every):,} "
            f"cannot be trained on, the first is {odd[0].no_jpeg}: training stops "
            "there, or masks them with dataset.train_dataset.on_bad_record = 'skip'; "
            "python -m input_pipeline.validate names all"
        )
    yield from _copies(surveys)
    yield from _empty_classes(surveys, info)


def _copies(surveys: Surveys) -> Iterator[str]:
    """Yield what says which splits hold files with the same records."""
    first: dict[bytes, tuple[str, str]] = {}
    copies: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for split, one in ((s, one) for s, of_split in surveys.items() for one in of_split):
        name = one.shard.filename
        other, copied = first.setdefault(one.digest, (split, name))
        if copied != name:
            copies.setdefault((split, other), []).append((name, copied))
    for (split, other), pairs in copies.items():
        name, copied = pairs[0]
        more = f" ({count(len(pairs), 'such file')})" if len(pairs) > 1 else ""
        why = f": {split} then says nothing of images that {other} does not hold"
        yield f"{name} holds the same records as {copied}{more}{why * (split != other)}"


def _empty_classes(surveys: Surveys, info: DatasetInfo) -> Iterator[str]:
    """Yield what says which classes have no image, at all or in a split."""
    classes = range(info.label_offset, info.label_offset + len(info.label_names))
    seen = {
        split: {label for one in of_split for label in one.counts}
        for split, of_split in surveys.items()
    }
    somewhere = set().union(*seen.values())
    if len(somewhere) == 1:
        yield f"all images are of one class, label {min(somewhere)}"
    for where, here, of in (
        ("", somewhere, classes),
        *((f" in {split}", here, sorted(somewhere)) for split, here in seen.items()),
    ):
        if empty := [label for label in of if label not in here]:
            name = info.label_names[empty[0] - info.label_offset]
            verb = "has" if len(empty) == 1 else "have"
            yield (
                f"{len(empty):,} of {count(len(of), 'class', 'classes')} {verb} no "
                f"image{where}, the first is label {empty[0]}, {name!r}"
            )
