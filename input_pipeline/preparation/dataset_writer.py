"""The writer of prepared datasets: parallel, restartable, the same bytes on every run.

A Plan says which image goes where, so it decides every byte of the output, whatever the
number of processes. Each file of records appears whole or not at all; a run that was
killed is finished by the same command, which keeps the files that are there. Only one
that is damaged, and begins as the plan's does, is written anew; any other is refused.
The plan's digest lies beside them, so that files of two plans never mix.
dataset_info.json comes last.
"""

import collections
import dataclasses
import json
import os
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

import tensorflow as tf
from google.protobuf.message import DecodeError

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
_Result = TypeVar("_Result")

_LENGTH_BYTES = 8  # of a record, with which a TFRecord begins
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
      UserError: the folder cannot be used, holds another dataset or other records, or
        is described in other words; another process writes there; an image is bad.
    """
    job = _Job(plan, output, plan.files(), workers, skip_bad_images)
    _make_folder(output)
    try:
        with claims.hold(output, "a prepare") as claim:
            return _write(job, claim, overwrite_info)
    except claims.Unwritable as refusal:
        return _verify(job, refusal)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A plan, and how it is to be carried out."""

    plan: Plan
    output: str
    files: Sequence[File]
    workers: int
    skip: bool

    @property
    def names(self) -> list[str]:
        """All that is written, by name."""
        shards = (file.filename for file in self.files)
        return [PLAN_FILENAME, records.INFO_FILENAME, *shards]

    def run(
        self, function: Callable[[_Task, worker_pool.Advance], _Result]
    ) -> list[_Result]:
        """Return what a function says of each file, in order."""
        tasks = [
            _Task(
                tf.io.gfile.join(self.output, file.filename),
                self.plan.splits[file.split].source,
                file.items,
                self.plan.classes,
                self.skip,
            )
            for file in self.files
        ]
        total = sum(len(file.items) for file in self.files)
        return worker_pool.run(
            function, tasks, workers=self.workers, total=total, unit="images"
        )

    def info(self, found: Sequence[ShardInfo]) -> DatasetInfo:
        """Return the description of a dataset of these files."""
        shards: dict[str, list[ShardInfo]] = {}
        for file, shard in zip(self.files, found, strict=True):
            shards.setdefault(file.split, []).append(shard)
        splits = {name: SplitInfo(tuple(of_split)) for name, of_split in shards.items()}
        names = tuple(one.name for one in self.plan.classes)
        return DatasetInfo(self.plan.name, LABEL_OFFSET, names, splits)

    def outcome(self, done: Sequence[_Done], *, described: bool) -> Outcome:
        """Return what was done, from what was done to each file."""
        written = sum(one.is_new for one in done)
        skipped = tuple(line for one in done for line in one.skipped)
        info = self.info([one.shard for one in done])
        return Outcome(info, described, written, len(done) - written, skipped)


def _write(job: _Job, claim: claims.Claim, overwrite_info: bool) -> Outcome:
    _begin(job)
    if not overwrite_info:
        _check_info(job)
    try:
        done = job.run(_complete)
    finally:
        _remove_stale(job)
    info = job.info([one.shard for one in done])
    claim.check()
    described = write_info_once(info, job.output, overwrite=overwrite_info)
    return job.outcome(done, described=described)


def _verify(job: _Job, refusal: claims.Unwritable) -> Outcome:
    """Return what is there if all of it is; else raise why nothing can be written."""
    if not _present(job).issuperset(job.names):
        raise refusal
    _compare(summary(job.plan), _read_plan(job.output), job.output)
    found = job.run(_keep)
    done = [one for one in found if one]
    if len(done) < len(found):
        raise refusal
    if records.read_info(job.output) != job.info([one.shard for one in done]):
        raise refusal
    return job.outcome(done, described=False)


def _make_folder(output: str) -> None:
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise DataError(f"{output} is a file: choose a folder for --output")
    gfiles.make_folder(output)


def _present(job: _Job) -> set[str]:
    """Return the names in the folder; a DataError if one of ours is of no file."""
    present = set(tf.io.gfile.listdir(job.output))
    for name in present.intersection(job.names):
        records.require_file(tf.io.gfile.join(job.output, name))
    return present


def _begin(job: _Job) -> None:
    """Make the folder this plan's own; a DataError if it is another one's."""
    present, plan = _present(job), summary(job.plan)
    if PLAN_FILENAME in present:
        _compare(plan, _read_plan(job.output), job.output)
    elif taken := [name for name in present if _FOREIGN.fullmatch(name)]:
        raise DataError(
            f"{job.output} holds another dataset already ({min(taken)}): "
            "choose another folder, or delete it"
        )
    else:
        path = tf.io.gfile.join(job.output, PLAN_FILENAME)
        gfiles.write_text(path, json.dumps(plan) + "\n")
    _remove_stale(job)


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


def _remove_stale(job: _Job) -> None:
    """Remove the unfinished files of processes that were killed."""
    gfiles.remove_stale_files(
        job.output, older_than_seconds=0, of=set(job.names).__contains__
    )


def write_info_once(info: DatasetInfo, folder: str, *, overwrite: bool = False) -> bool:
    """Write dataset_info.json unless it is there, the same; return whether it did.

    Args:
      info: what to write.
      folder: where to.
      overwrite: a file that says something else, too, or cannot be read.

    Raises:
      DataError: there is such a file. A person may have mended the names in it.
    """
    there = _info_there(folder, overwrite=overwrite)
    if there == info:
        return False
    if there is not None and not overwrite:
        _require_same(there, info, folder)
    records.write_info(info, folder)
    return True


def _info_there(folder: str, *, overwrite: bool) -> DatasetInfo | None:
    """Return what is said already; None if nothing is that may not be overwritten."""
    path = tf.io.gfile.join(folder, records.INFO_FILENAME)
    records.require_file(path)
    if not gfiles.exists(path):
        return None
    try:
        return records.read_info(folder)
    except DataError:
        if not overwrite:
            raise
    return None


def _check_info(job: _Job) -> None:
    """Refuse a description that the plan contradicts, before anything is written."""
    there = _info_there(job.output, overwrite=False)
    if there is None:
        return
    listed = {
        shard.filename: shard
        for split in there.splits.values()
        for shard in split.shards
    }
    found = [  # what a file holds is known once it is written
        listed.get(file.filename, ShardInfo(file.filename, len(file.items), ()))
        for file in job.files
    ]
    _require_same(there, job.info(found), job.output)


def _require_same(there: DatasetInfo, now: DatasetInfo, folder: str) -> None:
    if there != now:
        raise DataError(
            f"{tf.io.gfile.join(folder, records.INFO_FILENAME)} says something else "
            f"than the data do ({_differences(there, now)}): keep it as it is, or "
            "overwrite it with --overwrite_info"
        )


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
    if kept := _keep(task, advance):
        return kept
    skipped: list[str] = []
    try:
        shard = records.write_shard(task.path, _examples(task, skipped, advance))
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot write {task.path}: {one_line(error)}") from None
    return _Done(shard, True, tuple(skipped))


def _keep(task: _Task, advance: worker_pool.Advance) -> _Done | None:
    """Return what is there already; None if that is nothing, or damaged.

    Raises:
      DataError: it is not the task's. Somebody may have changed it, or put it there.
    """
    records.require_file(task.path)
    if not tf.io.gfile.exists(task.path):
        return None
    found: list[str | None] = []
    try:
        shard = _index(task, found)
        if not found:
            return _require_begin(task)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot read {task.path}: {one_line(error)}") from None
    skipped = _skipped(task, found, is_whole=shard is not None)
    if shard is None:
        return None
    advance(len(task.items))
    return _Done(shard, False, tuple(skipped))


def _index(task: _Task, found: list[str | None]) -> ShardInfo | None:
    """Read the names in a file, up to where it is damaged; None if it is."""
    try:
        return records.index_shard(
            task.path, lambda content: found.append(_stored_filename(content))
        )
    except DataError:
        return None


def _skipped(task: _Task, found: Sequence[str | None], *, is_whole: bool) -> list[str]:
    """Return what is wrong with the images that a file leaves out.

    Raises:
      DataError: nothing is wrong with one, or there are others.
    """
    skipped, names = [], collections.deque(found)
    for item in task.items:
        if names and names[0] == _printable(item.filename):
            names.popleft()
        elif names or is_whole:
            skipped.append(_fault(task, item) or _refuse(task))
    if names:
        _refuse(task)
    return skipped


def _require_begin(task: _Task) -> None:
    """Refuse a file without any good record, unless it begins as the task's does.

    An empty one holds nothing: a machine that lost its power leaves such files.
    """
    with tf.io.gfile.GFile(task.path, "rb") as file:
        head = file.read(_LENGTH_BYTES)
    if not head:
        return
    first = next(_examples(task, [], lambda count: None))
    if head != len(first).to_bytes(_LENGTH_BYTES, "little"):
        _refuse(task)


def _refuse(task: _Task) -> NoReturn:
    raise DataError(
        f"{task.path} is there, and is not what is to be written there: move it away, "
        "or choose another folder"
    )


def _stored_filename(content: bytes) -> str | None:
    try:
        features = tf.train.Example.FromString(content).features.feature
    except DecodeError:
        return None
    names = features["image/filename"].bytes_list.value
    return names[0].decode("utf-8", "backslashreplace") if names else None


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
