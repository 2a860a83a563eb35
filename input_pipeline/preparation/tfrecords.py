"""TFRecords that others wrote: found, counted, checked, described; never copied."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from common import gfiles
from common.console import count
from input_pipeline import dataset_info
from input_pipeline.dataset_info import INFO_FILENAME, DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.preparation import (
    class_names,
    description,
    record_content,
    record_files,
    tfds,
)
from input_pipeline.preparation.description import Described
from input_pipeline.preparation.record_classes import NO_LABEL, GivenNames
from input_pipeline.preparation.record_files import RecordFiles, command
from input_pipeline.preparation.record_notes import survey_notes
from input_pipeline.preparation.record_survey import Surveys, survey
from input_pipeline.preparation.tfds import TfdsInfo
from input_pipeline.records import Fields


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
      described: what became of that file.
      images: of each class, by split.
      notes: what a person should know of it, a line each.
    """

    info: DatasetInfo
    described: Described
    images: Mapping[str, Sequence[int]]
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Opened:
    """What there is to read, and as what; no more than the first records are read.

    Attributes:
      source: the TFRecords.
      theirs: TensorFlow Datasets' description, if there is one.
      files: of each split.
      fields: of the records.
      names: what somebody has said of the classes.
      notes: is told what a person should know.
    """

    source: Source
    theirs: TfdsInfo | None
    files: Mapping[str, Sequence[str]]
    fields: Fields
    names: GivenNames
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Examined:
    """All records, read once."""

    opened: Opened
    surveys: Surveys
    label_names: tuple[str, ...]

    def info(self, records_dir: str) -> DatasetInfo:
        """Return the description of the records where they are."""
        source, theirs = self.opened.source, self.opened.theirs
        offset = self.opened.names.offset
        return DatasetInfo(
            name=theirs.name if theirs else _name(source.folder),
            label_offset=offset,
            label_names=self.label_names,
            splits=_splits(self.surveys, range(offset, offset + len(self.label_names))),
            fields=self.opened.fields,
            records_dir=records_dir,
        )


def describe(
    source: Source,
    *,
    output: str | None = None,
    workers: int,
    overwrite_info: bool = False,
    allow_one_class: bool = False,
) -> Description:
    """Read all TFRecords of a folder once and write dataset_info.json.

    Args:
      source: the TFRecords.
      output: the folder to write it in, made if need be; by default beside them.
      workers: processes.
      overwrite_info: write dataset_info.json anew where it says something else.
      allow_one_class: whether one class is enough.

    Raises:
      DataError: files that are missing, empty, damaged or no TFRecords; records without
        an image or a label; labels that do not fit the offset and the names; a
        dataset_info.json that says something else, or is not ours.
    """
    output = _output(output, source.folder)
    opened = open_source(source)
    refusal = _unwritable(output)
    found = examine(opened, workers=workers, allow_one_class=allow_one_class)
    info = found.info(_records_dir(source.folder, output, opened.files))
    notes = [*opened.notes, *survey_notes(found.surveys, info)]
    if refusal:
        described = description.only_read(info, output)
        if described is None:
            raise refusal
    else:
        described = description.write_once(info, output, overwrite=overwrite_info)
    return Description(info, described, _images(info), notes)


def open_source(source: Source) -> Opened:
    """Find the files, and what their fields are called; a DataError as in describe."""
    theirs = tfds.read(source.folder)
    found = _find(source, theirs)
    for name in (name for names in found.splits.values() for name in names):
        dataset_info.require_file(tf.io.gfile.join(source.folder, name))
    fields = _fields(source, theirs, found.splits)
    notes = list(found.notes)
    names = _given_names(source, theirs, fields.label, notes)
    return Opened(source, theirs, found.splits, fields, names, notes)


def examine(
    opened: Opened,
    *,
    workers: int,
    names_records: bool = False,
    allow_one_class: bool = False,
) -> Examined:
    """Read all records.

    Args:
      opened: their files.
      workers: processes.
      names_records: see `survey`.
      allow_one_class: whether one class is enough.

    Raises:
      DataError: as in `describe`.
    """
    folder = opened.source.folder
    surveys: Surveys = survey(
        folder,
        opened.files,
        opened.fields,
        workers=workers,
        names_records=names_records,
    )
    if opened.theirs:
        _check_lengths(surveys, opened.theirs, folder)
    surveys = _labelled(surveys, opened.notes)
    found = Examined(opened, surveys, opened.names.of_classes(surveys, folder))
    labels = {
        n for of_split in surveys.values() for one in of_split for n in one.counts
    }
    if len(labels) == 1 and not allow_one_class:
        name = found.label_names[min(labels) - opened.names.offset]
        raise DataError(
            f"{folder} holds images of one class, label {min(labels)}, {name!r}: are "
            "files of the others missing, or is the label in another field? If not, "
            "give --allow_one_class"
        )
    return found


def require_apart(source: str, output: str) -> None:
    """Raise a DataError if records written anew would lie among those that there are.

    Args:
      source: the folder of those that there are.
      output: the folder of those to be written.
    """
    one, other = gfiles.local_path(output), gfiles.local_path(source)
    if one is not None and other is not None:
        one, other = os.path.realpath(one), os.path.realpath(other)
        lies_in = os.path.commonpath([one, other]) == other
    else:
        lies_in = f"{output.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    if lies_in:
        raise DataError(
            f"--output {output} lies in --source {source}, whose records --shuffle "
            "leaves as they are: choose a folder outside"
        )
    _output(output, source)


def _splits(surveys: Surveys, labels: Sequence[int]) -> dict[str, SplitInfo]:
    return {
        split: SplitInfo(
            tuple(one.shard for one in of_split),
            tuple(
                sum(one.counts.get(label, 0) for one in of_split) for label in labels
            ),
        )
        for split, of_split in surveys.items()
    }


def _unwritable(output: str) -> DataError | None:
    """Make the folder; return why nothing can be written, before all is read.

    Raises:
      DataError: nothing can, and there is no description that may be as it should be.
    """
    gfiles.make_folder(output)
    local = gfiles.local_path(output)
    if local is None or os.access(local, os.W_OK | os.X_OK):
        return None
    refusal = DataError(
        f"{output} cannot be written in: mend its permissions, or name another "
        f"folder for {INFO_FILENAME}, --output=OUT"
    )
    if not gfiles.exists(tf.io.gfile.join(output, INFO_FILENAME)):
        raise refusal
    return refusal


def _images(info: DatasetInfo) -> dict[str, Sequence[int]]:
    """Return the number of images of each class, in order, by split."""
    return {name: split.images or () for name, split in info.splits.items()}


def _name(source: str) -> str:
    """Return the folder's own name, also where it is called "."."""
    path = source.rstrip("/") if "://" in source else os.path.abspath(source)
    return os.path.basename(path) or "tfrecords"


def _output(output: str | None, source: str) -> str:
    """Return where to write; a DataError where another tool's description is."""
    output = source if output is None else output
    path = tf.io.gfile.join(output, INFO_FILENAME)
    dataset_info.require_file(path)
    if content := tfds.foreign_info(output):
        if _is_same(output, source):
            dataset_info.require_ours(content, source)
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
    splits = {
        split: holding
        for split, names in theirs.splits.items()
        if (holding := tuple(name for name, length in names.items() if length != 0))
    }
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


def _given_names(
    source: Source, theirs: TfdsInfo | None, label: str, notes: list[str]
) -> GivenNames:
    """Read the classes' names, which is done before all records are."""
    offset = source.label_offset
    if offset is None:
        offset = 0 if theirs else 1
    path, plain = source.labels, False
    if path is None and theirs:
        path, plain = tfds.labels_file(source.folder, label), True
    if path is None:
        return GivenNames(offset, None, "", notes)
    given = class_names.read(path, first=offset, note=notes.append, plain=plain)
    return GivenNames(offset, given, path, notes)


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
        if {label for one in of_split for label in one.counts} == {NO_LABEL}
    ]
    if len(without) == len(surveys):
        return surveys
    for split in without:
        total = sum(one.shard.records for one in surveys[split])
        notes.append(
            f"{split} is left out: its {count(total, 'record')} have the label "
            f"{NO_LABEL}, which is none"
        )
    return {split: one for split, one in surveys.items() if split not in without}
