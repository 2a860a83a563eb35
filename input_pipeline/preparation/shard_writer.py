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
    Pixels,
    RecordSource,
    Source,
)
from input_pipeline.records import ShardInfo

_LENGTH_BYTES = 8  # of a record, with which a TFRecord begins
# Images that are looked at together. An image of more bytes is so alone.
_TOGETHER, _TOGETHER_BYTES = 8, 4 << 20


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


@dataclasses.dataclass
class _Tally:
    """What is noted of a file's images while they pass by; see `Done`."""

    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    oriented: int = 0
    transparent: int = 0


def complete(task: Task, advance: worker_pool.Advance) -> Done:
    """Keep the file if it is whole, else write it."""
    if kept := keep(task, advance):
        return kept
    tally = _Tally()
    try:
        examples = _examples(task, advance, tally)
        shard = records.write_shard(task.path, examples)
    except (OSError, tf.errors.OpError) as error:
        raise storage_errors.cannot_write(task.path, error, mistake=DataError) from None
    skipped = tuple(tally.skipped)
    return Done(shard, True, skipped, tally.oriented, tally.transparent)


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
    first = next(_examples(task, lambda count: None, _Tally()))
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
    task: Task, advance: worker_pool.Advance, tally: _Tally
) -> Iterator[bytes]:
    """Yield the serialized records of a file; `tally` is of those that have passed."""
    if isinstance(task.source, RecordSource):
        for item in task.items:
            yield task.source.record(item)
            advance(1)
        return
    images = _images(task.source, task.items)
    for item, image in zip(task.items, images, strict=True):
        if isinstance(image, BadImageError):
            tally.skipped.append(_report(task, item, image))
        else:
            one = task.classes[item.label]
            tally.oriented += image.orientation != exif.UPRIGHT
            tally.transparent += image.transparent
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
    if len(tally.skipped) == len(task.items):
        first = tally.skipped[0].why
        raise DataError(
            f"none of the {len(task.items)} images for {task.path} can be used, for "
            f"one {first}: mend them, or choose fewer --shards and another --output"
        )


def _images(source: Source, items: Sequence[Item]) -> Iterator[Jpeg | BadImageError]:
    """Yield each image, or what is wrong with it; a few are looked at together."""
    if not isinstance(source, Pixels):
        yield from (_load(source, item) for item in items)
        return
    for group in _groups(items):
        yield from _together(source, group)


def _together(source: Pixels, items: Sequence[Item]) -> Iterator[Jpeg | BadImageError]:
    files = [_read(source, item) for item in items]
    whole = [one for one in files if isinstance(one, bytes)]
    converted = iter(source.convert(whole))
    for one in files:
        if isinstance(one, DataError):
            raise one  # in its turn: something may be wrong with an earlier image
        yield next(converted) if isinstance(one, bytes) else one


def _load(source: Source, item: Item) -> Jpeg | BadImageError:
    try:
        return source.load(item)
    except BadImageError as error:
        return error


def _read(source: Pixels, item: Item) -> bytes | BadImageError | DataError:
    try:
        return source.read(item)
    except (BadImageError, DataError) as error:
        return error


def _groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in order, a few together, or one of many bytes alone."""
    group: list[Item] = []
    size = 0
    for item in items:
        if group and (len(group) == _TOGETHER or size + item.size > _TOGETHER_BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size
    if group:
        yield group


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
