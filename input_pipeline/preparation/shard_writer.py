"""The files of records of a prepared dataset: each is kept, written or refused.

It runs in the processes of a pool, a file at a time.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

import tensorflow as tf
from google.protobuf.message import DecodeError

from common import storage_errors
from input_pipeline import dataset_info, records, worker_pool
from input_pipeline.errors import DataError
from input_pipeline.images import exif
from input_pipeline.preparation.jpeg import BadImageError, Jpeg
from input_pipeline.preparation.plan import (
    LABEL_OFFSET,
    Class,
    Item,
    RecordSource,
    Source,
)
from input_pipeline.records import ShardInfo

_LENGTH_BYTES = 8  # of a record, with which a TFRecord begins


@dataclasses.dataclass(frozen=True)
class Task:
    """One file to be made. `skip` is for images that cannot be used."""

    path: str
    source: Source | RecordSource
    items: Sequence[Item]
    classes: tuple[Class, ...]
    skip: bool


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An image that is left out: the index of its class, and what is wrong with it."""

    label: int
    why: str


@dataclasses.dataclass(frozen=True)
class Done:
    """A file that is there, new or not, and the images that it leaves out.

    Of a new one `oriented` is the number of images with an EXIF orientation, and
    `transparent` of those that may have transparent pixels.
    """

    shard: ShardInfo
    is_new: bool
    skipped: tuple[Skipped, ...]
    oriented: int = 0
    transparent: int = 0


def complete(task: Task, advance: worker_pool.Advance) -> Done:
    """Keep the file if it is whole, else write it."""
    if kept := keep(task, advance):
        return kept
    skipped: list[Skipped] = []
    seen: list[Jpeg] = []
    try:
        examples = _examples(task, skipped, advance, seen)
        shard = records.write_shard(task.path, examples)
    except (OSError, tf.errors.OpError) as error:
        raise storage_errors.cannot_write(task.path, error, mistake=DataError) from None
    oriented = sum(image.orientation != exif.UPRIGHT for image in seen)
    transparent = sum(image.transparent for image in seen)
    return Done(shard, True, tuple(skipped), oriented, transparent)


def keep(task: Task, advance: worker_pool.Advance) -> Done | None:
    """Return what is there already; None if that is nothing, or damaged.

    Raises:
      DataError: it is not the task's. Somebody may have changed it, or put it there.
    """
    dataset_info.require_file(task.path)
    if not tf.io.gfile.exists(task.path):
        return None
    found: list[str | None] = []
    try:
        shard = _index(task, found)
        if not found:
            return _require_begin(task)
    except (OSError, tf.errors.OpError) as error:
        raise storage_errors.cannot_read(task.path, error, mistake=DataError) from None
    skipped = _skipped(task, found, is_whole=shard is not None)
    if shard is None:
        return None
    advance(len(task.items))
    return Done(shard, False, tuple(skipped))


def _index(task: Task, found: list[str | None]) -> ShardInfo | None:
    """Read the names in a file, up to where it is damaged; None if it is."""
    try:
        return records.index_shard(
            task.path, lambda content: found.append(_name_of(content, task.source))
        )
    except DataError:
        return None


def _skipped(
    task: Task, found: Sequence[str | None], *, is_whole: bool
) -> list[Skipped]:
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


def _require_begin(task: Task) -> None:
    """Refuse a file without any good record, unless it begins as the task's does.

    An empty one holds nothing: a machine that lost its power leaves such files.
    """
    with tf.io.gfile.GFile(task.path, "rb") as file:
        head = file.read(_LENGTH_BYTES)
    if not head:
        return
    first = next(_examples(task, [], lambda count: None, []))
    if head != len(first).to_bytes(_LENGTH_BYTES, "little"):
        _refuse(task)


def _refuse(task: Task) -> NoReturn:
    raise DataError(
        f"{task.path} is there, and is not what is to be written there: move it away, "
        "or choose another folder"
    )


def _name_of(content: bytes, source: Source | RecordSource) -> str | None:
    """Return the filename of the item that a record is of; None where it has none."""
    if isinstance(source, RecordSource):
        return source.name_of(content)
    return _stored_filename(content)


def _stored_filename(content: bytes) -> str | None:
    try:
        features = tf.train.Example.FromString(content).features.feature
    except DecodeError:
        return None
    names = features["image/filename"].bytes_list.value
    return names[0].decode("utf-8", "backslashreplace") if names else None


def _fault(task: Task, item: Item) -> Skipped | None:
    """Return why the image cannot be used, if so; a DataError unless it may be skipped.

    An image that was skipped before is looked at again: nothing else says why.
    """
    if isinstance(task.source, RecordSource):
        return None  # which are all taken
    try:
        task.source.load(item)
    except BadImageError as error:
        return _report(task, item, error)
    return None


def _examples(
    task: Task,
    skipped: list[Skipped],
    advance: worker_pool.Advance,
    seen: list[Jpeg],
) -> Iterator[bytes]:
    """Return the serialized records of a file.

    What they leave out is added to `skipped`, and to `seen` the rest without its bytes.
    """
    if isinstance(task.source, RecordSource):
        for item in task.items:
            yield task.source.record(item)
            advance(1)
        return
    for item in task.items:
        try:
            image = task.source.load(item)
        except BadImageError as error:
            skipped.append(_report(task, item, error))
        else:
            one = task.classes[item.label]
            seen.append(dataclasses.replace(image, encoded=b""))
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
        first = skipped[0].why
        raise DataError(
            f"none of the {len(skipped)} images for {task.path} can be used, for one "
            f"{first}: mend them, or choose fewer --shards and another --output"
        )


def _report(task: Task, item: Item, error: BadImageError) -> Skipped:
    """Name a bad image and its fault: as a DataError, unless it may be skipped."""
    fault = f"{_printable(task.source.describe(item))} {error}"
    if not task.skip:
        raise DataError(
            f"{fault}: start again with --on_bad_image skip to leave such images "
            "out, or mend it and prepare the dataset into a new folder"
        )
    return Skipped(item.label, fault)


def _printable(name: str) -> str:
    """Return a file name that need not be UTF-8, with its odd bytes written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
