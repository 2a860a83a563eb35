"""The writer of prepared datasets: parallel, restartable, the same bytes on every run.

A Plan says which image goes where, so it decides every byte of the output, whatever the
number of processes. Each file of records appears whole or not at all; a run that was
killed is finished by the same command, which keeps the files that are there. The plan's
digest lies beside them, so that files of two plans never mix. dataset_info.json comes
last.
"""

import dataclasses
import json
import os
import re
import reprlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from common import claims, gfiles
from common.errors import one_line
from input_pipeline import records, worker_pool
from input_pipeline.errors import DataError
from input_pipeline.preparation.jpeg import BadImageError
from input_pipeline.preparation.plan import (
    LABEL_OFFSET,
    Class,
    File,
    Item,
    Plan,
    Source,
    summary,
)
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo

PLAN_FILENAME = "prepare_plan.json"
_NAMED = 3  # changed names of classes that are told
# In a folder without a plan they are someone else's.
_FOREIGN = re.compile(rf".+-\d{{5}}-of-\d{{5}}|{re.escape(records.INFO_FILENAME)}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
      info: what there is now.
      described: whether dataset_info.json was written.
      written: files of records that were.
      kept: those that were there.
      skipped: the images that were, each with its why.
    """

    info: DatasetInfo
    described: bool
    written: int
    kept: int
    skipped: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Task:
    """One file to be made. `skip` is for images that cannot be used."""

    path: str
    source: Source
    items: Sequence[Item]
    classes: tuple[Class, ...]
    skip: bool


@dataclasses.dataclass(frozen=True)
class _Done:
    shard: ShardInfo
    is_new: bool
    skipped: tuple[str, ...]


def write(
    plan: Plan,
    output: str,
    *,
    workers: int,
    skip_bad_images: bool,
    overwrite_info: bool = False,
) -> Outcome:
    """Write a dataset, or what is missing of it.

    Args:
      plan: what to write.
      output: the folder, on a disk or in a bucket; made if need be.
      workers: processes.
      skip_bad_images: instead of stopping at the first.
      overwrite_info: write dataset_info.json anew where it says something else.

    Raises:
      UserError: the folder cannot be used, holds another dataset, or is described in
        other words; another process writes there; an image is bad.
    """
    files = plan.files()
    tasks = [
        _Task(
            tf.io.gfile.join(output, file.filename),
            plan.splits[file.split].source,
            file.items,
            plan.classes,
            skip_bad_images,
        )
        for file in files
    ]
    ours = [PLAN_FILENAME, records.INFO_FILENAME, *(file.filename for file in files)]
    _make_folder(output)
    with claims.hold(output, "a prepare") as claim:
        _begin(output, summary(plan), ours)
        try:
            done = worker_pool.run(
                _complete,
                tasks,
                workers=workers,
                total=sum(len(file.items) for file in files),
                unit="images",
            )
        finally:
            _remove_stale(output, ours)
        info = _info(plan, files, done)
        claim.check()
        described = write_info_once(info, output, overwrite=overwrite_info)
    written = sum(one.is_new for one in done)
    skipped = tuple(line for one in done for line in one.skipped)
    return Outcome(info, described, written, len(done) - written, skipped)


def _info(plan: Plan, files: Sequence[File], done: Sequence[_Done]) -> DatasetInfo:
    shards: dict[str, list[ShardInfo]] = {}
    for file, one in zip(files, done, strict=True):
        shards.setdefault(file.split, []).append(one.shard)
    splits = {split: SplitInfo(tuple(of_split)) for split, of_split in shards.items()}
    names = tuple(one.name for one in plan.classes)
    return DatasetInfo(plan.name, LABEL_OFFSET, names, splits)


def _make_folder(output: str) -> None:
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise DataError(f"{output} is a file: choose a folder for --output")
    gfiles.make_folder(output)


def _begin(output: str, plan: dict[str, object], ours: Sequence[str]) -> None:
    """Make the folder this plan's own; a DataError if it is another one's."""
    present = set(tf.io.gfile.listdir(output))
    for name in present.intersection(ours):
        records.require_file(tf.io.gfile.join(output, name))
    if PLAN_FILENAME in present:
        _compare(plan, _read_plan(output), output)
    elif taken := [name for name in present if _FOREIGN.fullmatch(name)]:
        raise DataError(
            f"{output} holds another dataset already ({min(taken)}): "
            "choose another folder, or delete it"
        )
    else:
        path = tf.io.gfile.join(output, PLAN_FILENAME)
        gfiles.write_text(path, json.dumps(plan) + "\n")
    _remove_stale(output, ours)


def _read_plan(output: str) -> dict[str, object]:
    path = tf.io.gfile.join(output, PLAN_FILENAME)
    try:
        with tf.io.gfile.GFile(path) as file:
            return dict(json.loads(file.read()))
    except (ValueError, TypeError):
        raise DataError(
            f"{path} cannot be read: delete {output} and prepare the dataset again"
        ) from None


def _compare(ours: dict[str, object], theirs: dict[str, object], output: str) -> None:
    """Raise a DataError that names the first difference between two plans."""
    for key, value in ours.items():
        if theirs.get(key) != value:
            difference = f"{key}: {_plain(theirs.get(key))} there, {_plain(value)} now"
            if key == "digest":
                difference = "names or sizes of its images are others now"
            raise DataError(
                f"{output} holds another dataset, begun from other images or with "
                f"other options ({difference}): choose another folder, or delete it"
            )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " + ".join(f"{number} {name}" for name, number in value.items())
    return str(value)


def _remove_stale(output: str, ours: Sequence[str]) -> None:
    """Remove the unfinished files of processes that were killed."""
    gfiles.remove_stale_files(output, older_than_seconds=0, of=set(ours).__contains__)


def write_info_once(info: DatasetInfo, folder: str, *, overwrite: bool = False) -> bool:
    """Write dataset_info.json unless it is there, the same; return whether it did.

    Args:
      info: what to write.
      folder: where to.
      overwrite: a file that says something else, too, or cannot be read.

    Raises:
      DataError: there is such a file. A person may have mended the names in it.
    """
    path = tf.io.gfile.join(folder, records.INFO_FILENAME)
    if gfiles.exists(path):
        try:
            there = records.read_info(folder)
        except DataError:
            if not overwrite:
                raise
        else:
            if there == info:
                return False
            if not overwrite:
                raise DataError(
                    f"{path} says something else than the data do "
                    f"({_differences(there, info)}): keep it as it is, or overwrite "
                    "it with --overwrite_info"
                )
    records.write_info(info, folder)
    return True


def _differences(there: DatasetInfo, now: DatasetInfo) -> str:
    """Return what would change, each as "field: old -> new", in few words."""
    found = [
        f"{field}: {reprlib.repr(old)} -> {reprlib.repr(new)}"
        for field in ("name", "label_offset")
        if (old := getattr(there, field)) != (new := getattr(now, field))
    ]
    if there.label_names != now.label_names:
        found.append(f"label_names: {_renamed(there.label_names, now.label_names)}")
    if there.splits != now.splits:
        old, new = _totals(there), _totals(now)
        other = "other files, or other places in them"
        found.append(f"splits: {other if old == new else f'{old} -> {new}'}")
    return "; ".join(found)


def _renamed(old: Sequence[str], new: Sequence[str]) -> str:
    if len(old) != len(new):
        return f"{reprlib.repr(old)} -> {reprlib.repr(new)}"
    pairs = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    told = [" -> ".join(reprlib.repr(name) for name in pair) for pair in pairs[:_NAMED]]
    if len(pairs) > _NAMED:
        told.append(f"and {len(pairs) - _NAMED} more")
    return ", ".join(told)


def _totals(info: DatasetInfo) -> str:
    return " + ".join(f"{split.total} {name}" for name, split in info.splits.items())


def _complete(task: _Task, advance: worker_pool.Advance) -> _Done:
    """Keep the file if it is whole, else write it."""
    kept = _keep(task)
    if kept is not None:
        advance(len(task.items))
        return kept
    skipped: list[str] = []
    try:
        shard = records.write_shard(task.path, _examples(task, skipped, advance))
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot write {task.path}: {one_line(error)}") from None
    return _Done(shard, True, tuple(skipped))


def _keep(task: _Task) -> _Done | None:
    """Return what is there already; None if it is damaged, or not this task's."""
    if not tf.io.gfile.exists(task.path):
        return None
    found: list[str] = []
    try:
        shard = records.index_shard(
            task.path, lambda content: found.append(_stored_filename(content))
        )
    except DataError:
        return None
    present = set(found)
    absent = [item for item in task.items if _printable(item.filename) not in present]
    skipped = [_fault(task, item) for item in absent]
    if len(found) + len(absent) != len(task.items) or None in skipped:
        return None
    return _Done(shard, False, tuple(line for line in skipped if line))


def _stored_filename(content: bytes) -> str:
    features = tf.train.Example.FromString(content).features.feature
    return features["image/filename"].bytes_list.value[0].decode()


def _fault(task: _Task, item: Item) -> str | None:
    """Return why the image cannot be used, if so; a DataError unless it may be skipped.

    An image that was skipped before is looked at again: nothing else says why.
    """
    try:
        task.source.load(item)
    except BadImageError as error:
        return _report(task, item, error)
    return None


def _examples(
    task: _Task, skipped: list[str], advance: worker_pool.Advance
) -> Iterator[bytes]:
    """Return the serialized records of a file; add to `skipped` what they leave out."""
    for item in task.items:
        try:
            image = task.source.load(item)
        except BadImageError as error:
            skipped.append(_report(task, item, error))
        else:
            one = task.classes[item.label]
            yield records.make_example(
                image.encoded,
                label=LABEL_OFFSET + item.label,
                height=image.height,
                width=image.width,
                filename=_printable(item.filename),
                synset=one.synset,
                text=one.name,
            )
        advance(1)
    if len(skipped) == len(task.items):
        raise DataError(
            f"none of the {len(skipped)} images for {task.path} can be used, for one "
            f"{skipped[0]}: mend them, or choose fewer --shards and another --output"
        )


def _report(task: _Task, item: Item, error: BadImageError) -> str:
    """Name a bad image and its fault: as a DataError, unless it may be skipped."""
    fault = f"{_printable(task.source.describe(item))} {error}"
    if not task.skip:
        raise DataError(
            f"{fault}: start again with --on_bad_image skip to leave such images "
            "out, or mend it and prepare the dataset into a new folder"
        )
    return fault


def _printable(name: str) -> str:
    """Return a file name that need not be UTF-8, with its odd bytes written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
