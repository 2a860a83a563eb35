"""The writer of prepared datasets: parallel, restartable, the same bytes on every run.

A Plan says which image goes where, so it decides every byte of the output, whatever the
number of processes. Each file of records appears whole or not at all; a run that was
killed is finished by the same command, which keeps the files that are there. Only one
that is damaged, and begins as the plan's does, is written anew; any other is refused.
The plan's digest lies beside them, so that files of two plans never mix.
dataset_info.json comes last.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import tensorflow as tf

from common import claims, gfiles
from input_pipeline import dataset_info, worker_pool
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.preparation import description, shard_writer
from input_pipeline.preparation.description import Described
from input_pipeline.preparation.plan import File, Plan, summary
from input_pipeline.preparation.shard_writer import Done, Task
from input_pipeline.records import ShardInfo

PLAN_FILENAME = "prepare_plan.json"
_Result = TypeVar("_Result")

# In a folder without a plan they are someone else's.
_FOREIGN = re.compile(rf".+-\d{{5}}-of-\d{{5}}|{re.escape(dataset_info.INFO_FILENAME)}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
      info: what there is now.
      described: what became of dataset_info.json.
      written: files of records that were.
      kept: those that were there.
      skipped: the images that were, each with its why.
      images: how many of each class there are now, by split.
      oriented: images with an EXIF orientation in the files that were written.
      transparent: images there that may have transparent pixels.
    """

    info: DatasetInfo
    described: Described
    written: int
    kept: int
    skipped: tuple[str, ...]
    images: Mapping[str, Sequence[int]]
    oriented: int
    transparent: int = 0


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
        return [PLAN_FILENAME, dataset_info.INFO_FILENAME, *shards]

    def run(
        self, function: Callable[[Task, worker_pool.Advance], _Result]
    ) -> list[_Result]:
        """Return what a function says of each file, in order."""
        tasks = [
            Task(
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

    def info(self, found: Sequence[Done]) -> DatasetInfo:
        """Return the description of a dataset of these files."""
        shards: dict[str, list[ShardInfo]] = {}
        for file, one in zip(self.files, found, strict=True):
            shards.setdefault(file.split, []).append(one.shard)
        images = self._images(found)
        splits = {
            name: SplitInfo(tuple(of_split), tuple(images[name]))
            for name, of_split in shards.items()
        }
        names = tuple(one.name for one in self.plan.classes)
        offset, fields = self.plan.label_offset, self.plan.fields
        return DatasetInfo(self.plan.name, offset, names, splits, fields)

    def outcome(self, done: Sequence[Done], *, described: Described) -> Outcome:
        """Return what was done, from what was done to each file."""
        written = sum(one.is_new for one in done)
        skipped = tuple(one.why for file in done for one in file.skipped)
        info, kept = self.info(done), len(done) - written
        return Outcome(
            info,
            described,
            written,
            kept,
            skipped,
            self._images(done),
            oriented=sum(one.oriented for one in done),
            transparent=sum(one.transparent for one in done),
        )

    def _images(self, done: Sequence[Done]) -> dict[str, list[int]]:
        images = {split: [0] * len(self.plan.classes) for split in self.plan.splits}
        for file, one in zip(self.files, done, strict=True):
            for item in file.items:
                images[file.split][item.label] += 1
            for skipped in one.skipped:
                images[file.split][skipped.label] -= 1
        return images


def _write(job: _Job, claim: claims.Claim, overwrite_info: bool) -> Outcome:
    _begin(job)
    if not overwrite_info:
        _check_info(job)
    try:
        done = job.run(shard_writer.complete)
    finally:
        _remove_stale(job)
    info = job.info(done)
    claim.check()
    described = description.write_once(info, job.output, overwrite=overwrite_info)
    return job.outcome(done, described=described)


def _verify(job: _Job, refusal: claims.Unwritable) -> Outcome:
    """Return what is there if all of it is; else raise why nothing can be written."""
    if not _present(job).issuperset(job.names):
        raise refusal
    _compare(summary(job.plan), _read_plan(job.output), job.output)
    found = job.run(shard_writer.keep)
    done = [one for one in found if one]
    if len(done) < len(found):
        raise refusal
    described = description.only_read(job.info(done), job.output)
    if described is None:
        raise refusal
    return job.outcome(done, described=described)


def _make_folder(output: str) -> None:
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise DataError(f"{output} is a file: choose a folder for --output")
    gfiles.make_folder(output)


def _present(job: _Job) -> set[str]:
    """Return the names in the folder; a DataError if one of ours is of no file."""
    present = set(gfiles.names(job.output))
    for name in present.intersection(job.names):
        dataset_info.require_file(tf.io.gfile.join(job.output, name))
    return present


def _begin(job: _Job) -> None:
    """Make the folder this plan's own; a DataError if it is another one's."""
    present, plan = _present(job), summary(job.plan)
    taken = _taken(present)
    if PLAN_FILENAME in present and taken:
        _compare(plan, _read_plan(job.output), job.output)
    elif taken:
        raise DataError(
            f"{job.output} holds another dataset already ({min(taken)}): "
            "choose another folder, or delete it"
        )
    else:
        # In place of a plan by which nothing was written: an image that stopped the
        # first try may be mended or gone now.
        path = tf.io.gfile.join(job.output, PLAN_FILENAME)
        gfiles.write_text(path, json.dumps(plan) + "\n")
    _remove_stale(job)


def _taken(present: Iterable[str]) -> list[str]:
    """Return the names of what somebody's plan has written."""
    return [name for name in present if _FOREIGN.fullmatch(name)]


def begun_plan(output: str) -> dict[str, object] | None:
    """Return the summary of the plan by which a folder was begun, None if by none.

    Raises:
      DataError: it cannot be read.
    """
    if not tf.io.gfile.isdir(output):
        return None
    present = gfiles.names(output)
    if PLAN_FILENAME not in present or not _taken(present):
        return None
    dataset_info.require_file(tf.io.gfile.join(output, PLAN_FILENAME))
    return _read_plan(output)


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
    for key in ours | theirs:
        there, now = theirs.get(key), ours.get(key)
        if there != now:
            difference = f"{key}: {_plain(there)} there, {_plain(now)} now"
            if key == "digest":
                difference = "names or sizes of its images are others now"
            raise DataError(
                f"{output} holds another dataset, begun from other images or with "
                f"other options ({difference}): choose another folder, or delete it"
            )


def _plain(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return " + ".join(f"{number} {name}" for name, number in value.items())
    return str(value)


def _remove_stale(job: _Job) -> None:
    """Remove the unfinished files of processes that were killed."""
    gfiles.remove_stale_files(
        job.output, older_than_seconds=0, of=set(job.names).__contains__
    )


def _check_info(job: _Job) -> None:
    """Refuse a description that the plan contradicts, before anything is written."""
    there = description.find(job.output)
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
    now = job.info([Done(shard, is_new=False, skipped=()) for shard in found])
    description.require_same(there, description.without_counts(now), job.output)
