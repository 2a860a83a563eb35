"""Folders of images, one a class, as torchvision and timm read them."""

import collections
import dataclasses
import filecmp
import os
from collections.abc import Iterable, Mapping, Sequence

from common import console
from input_pipeline.errors import DataError
from input_pipeline.preparation import folders, layouts
from input_pipeline.preparation.folder_names import (
    difference,
    distractors,
    is_derived,
    look_alikes,
    named,
    splits_of,
)
from input_pipeline.preparation.jpeg import (
    MAX_BYTES,
    Jpeg,
    require_size,
    to_rgb_jpeg,
)
from input_pipeline.preparation.layouts import Layout, Place
from input_pipeline.preparation.plan import (
    MAX_SHARDS,
    Class,
    Item,
    Plan,
    Split,
    shuffled,
)
from input_pipeline.records import CHUNK_RECORDS

# Long reads, and still enough files to shuffle and to share among hosts.
_SHARD_BYTES = 150 << 20
_LEAST_SHARDS = 16
_COMPARED = 16  # pairs of images that are read, to know a split from its copy


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images by their path below a folder."""

    root: str

    def load(self, item: Item) -> Jpeg:
        """Read one file; raises BadImageError or DataError."""
        return to_rgb_jpeg(self.read(item))

    def read(self, item: Item) -> bytes:
        """Return the bytes of one file; raises BadImageError or DataError."""
        path = self.describe(item)
        try:
            with open(path, "rb") as file:
                require_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None

    def describe(self, item: Item) -> str:
        """Return the path of the file."""
        return os.path.join(self.root, item.filename)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a person should know of a folder, beside the plan.

    Attributes:
      notes: each one line, of what may not be meant.
      skipped: "3 other files, 1 hidden or system file"; "" where all was read.
    """

    notes: Sequence[str]
    skipped: str


# What is left out, as one and as many.
_SKIPPED = {
    "others": ("other file", "other files"),
    "loose": ("image in no class folder", "images in no class folder"),
    "junk": ("hidden or system file", "hidden or system files"),
}


@dataclasses.dataclass
class _Found:
    """The (path, bytes) of the images of each class of one split."""

    images: dict[str, list[tuple[str, int]]]
    skipped: collections.Counter[str]


def plan(
    source: str,
    *,
    shards: int | None = None,
    validation_fraction: float = 0.0,
    layout: str = "auto",
    allow_one_class: bool = False,
) -> tuple[Plan, Findings]:
    """Plan a dataset of all images below the class folders.

    Args:
      source: holds the class folders; or train/ and perhaps validation/ and test/,
        under the names that people give them, which hold them.
      shards: files of the training split; see `default_shards`.
      validation_fraction: of the images of each class, to be held out of the training
        split where there is no validation folder. Below 1; 0 holds out none.
      layout: "auto", "classes" or "splits", see `layouts.recognise`.
      allow_one_class: whether one class is enough.

    Returns:
      The plan, its classes in the order of their names; and what to tell a person.

    Raises:
      DataError: no such folder, or folders that cannot be read or are empty; a layout
        that is another one, or may be; classes that the training split lacks, or that
        look alike.
    """
    _require_folder(source)
    root = folders.read(source)
    read = layouts.recognise(source, root, layout)
    found = {split: _scan(place, split) for split, place in read.splits.items()}
    classes = sorted(found["train"].images)
    _check_classes(found, source)
    if len(classes) == 1 and not allow_one_class:
        raise DataError(
            f"{read.splits['train']} holds one class, {classes[0]}: is --source one "
            "folder too high or too low? If not, give --allow_one_class"
        )
    items = {split: _items(one.images, classes) for split, one in found.items()}
    notes = [*read.notes, *_notes(read, found, classes), *_copies(read, items)]
    if validation_fraction:
        _hold_out(items, validation_fraction)
    splits = {}
    for split, of_split in items.items():
        count = shards if split == "train" else None
        if count is None:
            count = default_shards(of_split)
        splits[split] = Split(Folder(source), shuffled(of_split), count)
    name = os.path.basename(os.path.abspath(source)) or "imagefolder"
    both = tuple(Class(_text(one), _text(one)) for one in classes)
    skipped = sum((one.skipped for one in found.values()), collections.Counter())
    if read.splits["train"].folder is not root:
        skipped += _beside_classes(root)
    return Plan(_text(name), both, splits), Findings(notes, _skipped(skipped))


def _require_folder(source: str) -> None:
    if os.path.isdir(source):
        return
    if "://" in source:
        raise DataError(f"images are read from a disk: copy {source} to one first")
    if os.path.exists(source):
        raise DataError(f"{source} is a file: name a folder with --source, unpacked")
    raise DataError(f"there is no folder {source}: name one with --source")


def _skipped(counts: Mapping[str, int]) -> str:
    return ", ".join(
        console.count(counts[kind], *words)
        for kind, words in _SKIPPED.items()
        if counts[kind]
    )


def default_shards(items: list[Item]) -> int:
    """Return how many make 150 MB each; but 16, if each then has 16 images."""
    total = sum(item.size for item in items if item.size <= MAX_BYTES)
    by_number = min(_LEAST_SHARDS, len(items) // CHUNK_RECORDS)
    return min(max(1, -(-total // _SHARD_BYTES), by_number), len(items), MAX_SHARDS)


def _text(name: str) -> str:
    """Return a folder's name that need not be UTF-8, with its odd bytes written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _scan(place: Place, split: str) -> _Found:
    """Return all images of a split's class folders, at any depth."""
    found = _Found({}, _beside_classes(place.folder))
    for name, folder in place.folder.folders.items():
        images = []
        for path, below in folder.all(above=(*place.above, place.folder)):
            inner = f"{place.path}{name}/{path}"
            images += [(inner + file, size) for file, size in below.images]
            found.skipped["others"] += len(below.others)
            found.skipped["junk"] += below.junk
        if images:
            found.images[name] = images
        elif split == "train":
            raise DataError(
                f"the class folder {os.path.join(str(place), name)} holds no image: "
                "fill it or remove it"
            )
    return found


def _beside_classes(folder: folders.Folder) -> collections.Counter[str]:
    """Count what lies in a folder of class folders, and is none."""
    return collections.Counter(
        others=len(folder.others), loose=len(folder.images), junk=folder.junk
    )


def _check_classes(found: Mapping[str, _Found], source: str) -> None:
    """Refuse classes that only look like others, and those that are not in train."""
    every = sorted({_text(name) for one in found.values() for name in one.images})
    if twins := look_alikes(every):
        raise DataError(
            f"{source} holds the classes {twins[0]} and {twins[1]}, which look alike "
            f"(they differ in {difference(*twins)}): give them one name"
        )
    known = found["train"].images
    for split, one in found.items():
        if unknown := sorted(set(one.images) - set(known)):
            raise DataError(
                f"{source} has {len(unknown)} classes in {split} that are not in train "
                f"({', '.join(unknown[:3])}): move them, or add them to train"
            )


def _notes(
    read: Layout, found: Mapping[str, _Found], classes: Sequence[str]
) -> Iterable[str]:
    """Yield what may not be meant, though it can be."""
    for name in distractors(classes):
        yield (
            f"{name} is a class like any other: move it elsewhere if it holds what "
            "belongs to none"
        )
    if odd := _odd_folders(found["train"], read.splits["train"]):
        yield f"the images in {named(odd)} are taken for images of their class"
    if linked := _linked(read.splits["train"]):
        yield "the classes {} and {} share a folder by a link".format(*linked)
    source = read.splits["train"].source
    if beside := _splits_beside(os.path.abspath(source)):
        yield f"left out what lies beside {source}: {named(beside)}"


def _odd_folders(found: _Found, place: Place) -> list[str]:
    """Return folders of masks, thumbnails and such, or in classes, of a split."""
    odd = []
    for name, images in found.images.items():
        for folder in {os.path.dirname(path) for path, _ in images}:
            last = os.path.basename(folder)
            is_split = folder != f"{place.path}{name}" and splits_of([last])
            if is_derived(last) or is_split:
                odd.append(folder)
    return sorted(odd)


def _linked(place: Place) -> tuple[str, str] | None:
    """Return the first two classes that hold the images of one folder."""
    owner: dict[folders.Folder, str] = {}
    for name, folder in place.folder.folders.items():
        for _, below in folder.all(above=(*place.above, place.folder)):
            if below.images and owner.setdefault(below, name) != name:
                return owner[below], name
    return None


def _splits_beside(source: str) -> list[str]:
    """Return the splits beside a folder that is one itself."""
    above, name = os.path.split(source)
    try:
        with os.scandir(above) as entries:
            others = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []  # it need not be readable: --source is
    splits = splits_of(others)
    return sorted(splits.keys() - {name}) if name in splits else []


def _copies(read: Layout, items: Mapping[str, Sequence[Item]]) -> Iterable[str]:
    """Yield which classes and splits hold images of others, under the same names.

    Few are read. Copies under other names are left to `validate`.
    """
    first: dict[tuple[str, int], tuple[str, Item]] = {}
    pairs: dict[str, list[tuple[str, str]]] = {}
    for split, place in read.splits.items():
        for item in items[split]:
            _, _, name = item.filename[len(place.path) :].partition("/")
            other_split, other = first.setdefault((name, item.size), (split, item))
            if other is not item:
                where = f"{split} and {other_split}"
                if split == other_split:
                    where = f"classes of {split}"
                pairs.setdefault(where, []).append((item.filename, other.filename))
    source = read.splits["train"].source
    for where, both in pairs.items():
        compared = both[:: -(-len(both) // _COMPARED)]
        same = [pair for pair in compared if _same(source, *pair)]
        if same:
            yield (
                f"{where} share images: {len(both):,} have the name and size of "
                f"another; of {len(compared)} that were compared, {len(same)} are the "
                f"same, for one {same[0][0]} and {same[0][1]}"
            )


def _same(source: str, one: str, other: str) -> bool:
    try:
        return filecmp.cmp(
            os.path.join(source, one), os.path.join(source, other), shallow=False
        )
    except OSError:
        return False  # whoever reads it next names it


def _items(
    images: Mapping[str, list[tuple[str, int]]], classes: list[str]
) -> list[Item]:
    return [
        Item(path, label, 0, size)
        for label, name in enumerate(classes)
        for path, size in images.get(name, [])
    ]


def _hold_out(items: dict[str, list[Item]], fraction: float) -> None:
    """Move a fraction of each class from training to validation; one image stays."""
    if not 0 < fraction < 1:
        raise DataError(f"--validation_fraction is {fraction}: choose 0 up to below 1")
    if "validation" in items:
        raise DataError(
            "there is a validation folder already: leave out --validation_fraction"
        )
    by_class: dict[int, list[Item]] = {}
    for item in items["train"]:
        by_class.setdefault(item.label, []).append(item)
    kept, held = [], []
    for of_class in by_class.values():
        count = min(round(len(of_class) * fraction), len(of_class) - 1)
        mixed = shuffled(of_class)
        held += mixed[:count]
        kept += mixed[count:]
    if len(items["train"]) == len(by_class):
        raise DataError(
            "each class has one image, which stays for training: leave out "
            "--validation_fraction"
        )
    if not held:
        raise DataError(
            f"--validation_fraction {fraction} of so few images is none: choose more"
        )
    items.update(train=kept, validation=held)
