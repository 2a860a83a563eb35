"""What a prepared dataset is to hold: which image goes into which file."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.preparation.jpeg import BadImageError, Jpeg
from input_pipeline.records import IMAGENET, Fields

MAX_SHARDS = 99_999  # five digits in a file's name
LABEL_OFFSET = 1  # as in ImageNet's TFRecords, where 0 is kept for the background
SYNSET = r"n\d{8}"  # a pattern: the name that WordNet, and so ImageNet, has of a class
# To be changed whenever the same source would give other bytes.
_VERSION = 1
_ORIENTATION = "EXIF orientation"  # in a summary
_TRANSPARENCY = "transparency"  # in a summary


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One image of a source.

    Attributes:
      filename: stored with it; no other of its split has it.
      label: the index of its class in the plan's.
      offset: where the source keeps it, if not by name.
      size: bytes in the source.
    """

    filename: str
    label: int
    offset: int
    size: int


class Source(Protocol):
    """Where images come from; travels to other processes."""

    def load(self, item: Item) -> Jpeg:
        """Read one image; raises BadImageError, or DataError if it cannot be read."""
        ...

    def describe(self, item: Item) -> str:
        """Return what an error calls it."""
        ...


@runtime_checkable
class Pixels(Source, Protocol):
    """A source of files, whose images may be read as they are."""

    def read(self, item: Item) -> bytes:
        """Return the bytes of one image; raises BadImageError or DataError."""
        ...

    def convert(self, files: Sequence[bytes]) -> list[Jpeg | BadImageError]:
        """Return what `load` makes of files that were read, or raises."""
        ...


@runtime_checkable
class RecordSource(Protocol):
    """Where records come from that are written as they are; travels as a Source."""

    def record(self, item: Item) -> bytes:
        """Read one record; a DataError if it cannot be read, or is another one."""
        ...

    def name_of(self, content: bytes) -> str:
        """Return the filename of the item that these bytes are of."""
        ...

    def describe(self, item: Item) -> str:
        """Return what an error calls it."""
        ...


@dataclasses.dataclass(frozen=True)
class Split:
    """Images in the order in which they are written, in so many files."""

    source: Source | RecordSource
    items: Sequence[Item]
    shards: int


@dataclasses.dataclass(frozen=True)
class Class:
    """A class: the identifier that it is sorted by, and its name for people."""

    synset: str
    name: str


@dataclasses.dataclass(frozen=True)
class File:
    """One TFRecord file to be written; its name is as in ImageNet's TFRecords."""

    split: str
    filename: str
    items: Sequence[Item]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that decides the bytes of a dataset.

    Attributes:
      name: of the dataset.
      classes: in the order of their labels.
      splits: by name.
      apply_orientation: whether photos are turned as their EXIF orientation says.
      on_white: whether white lies below transparent pixels.
      label_offset: of records that are written as they are.
      fields: likewise.
    """

    name: str
    classes: tuple[Class, ...]
    splits: Mapping[str, Split]
    apply_orientation: bool = False
    on_white: bool = False
    label_offset: int = LABEL_OFFSET
    fields: Fields = IMAGENET

    def files(self) -> list[File]:
        """Deal out the images in order, to sizes that differ by one at most.

        Raises:
          DataError: a split would have files without images, or no file.
        """
        return [file for name in self.splits for file in self._files_of(name)]

    def _files_of(self, name: str) -> list[File]:
        items, count = self.splits[name].items, self.splits[name].shards
        most = min(len(items), MAX_SHARDS)
        if not 1 <= count <= most:
            raise DataError(
                f"cannot write {len(items)} {name} images in {count} files: "
                f"choose 1 to {most}"
            )
        ends = [len(items) * shard // count for shard in range(count + 1)]
        return [
            File(name, f"{name}-{shard:05d}-of-{count:05d}", items[begin:end])
            for shard, (begin, end) in enumerate(itertools.pairwise(ends))
        ]


def shuffled(items: Sequence[Item]) -> list[Item]:
    """Return the items in an order that depends on their filenames alone."""
    by_name = sorted(items, key=lambda item: item.filename)
    # RandomState, not default_rng: numpy promises the same numbers in every version.
    order = np.random.RandomState(0).permutation(len(by_name))
    return [by_name[index] for index in order]


def turned_by(summary: Mapping[str, object]) -> bool:
    """Whether the plan of a summary has turned photos by their EXIF orientation."""
    return _ORIENTATION in summary


def whitened_by(summary: Mapping[str, object]) -> bool:
    """Whether the plan of a summary has put transparent pixels on white."""
    return _TRANSPARENCY in summary


def has_split(summary: Mapping[str, object], name: str) -> bool:
    """Whether the plan of a summary has a split of this name."""
    images = summary.get("images")
    return isinstance(images, Mapping) and name in images


def summary(plan: Plan) -> dict[str, object]:
    """Return what must not change between two runs.

    The digest covers what people do not read.
    How bad images are treated is not part of it: files made without any are the same.
    """
    digest = hashlib.sha256()
    for one in plan.classes:
        digest.update(f"{one.synset}\t{one.name}\n".encode("utf-8", "surrogateescape"))
    for split in plan.splits.values():
        for item in split.items:
            line = f"{item.filename}\t{item.label}\t{item.offset}\t{item.size}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    # Said only where it is so: the plans of older folders have no such key.
    turned = {_ORIENTATION: "applied"} if plan.apply_orientation else {}
    whitened = {_TRANSPARENCY: "white"} if plan.on_white else {}
    return {
        "version": _VERSION,
        "name": plan.name,
        "classes": len(plan.classes),
        "images": {name: len(split.items) for name, split in plan.splits.items()},
        "files": {name: split.shards for name, split in plan.splits.items()},
        **turned,
        **whitened,
        "digest": digest.hexdigest(),
    }
