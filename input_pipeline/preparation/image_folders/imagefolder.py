"""Folders of images, one a class, as torchvision and timm read them."""

import collections
import dataclasses
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

from common import console
from common.console import named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import (
    folders,
    known_layouts,
    labelled,
    layouts,
    sources,
)
from input_pipeline.preparation.image_folders.folder_names import (
    difference,
    distractors,
    is_derived,
    look_alikes,
    splits_of,
)
from input_pipeline.preparation.image_folders.layouts import Layout, Place
from input_pipeline.preparation.image_folders.rows import Columns
from input_pipeline.preparation.jpeg import MAX_BYTES
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
_ANY_COLUMNS = Columns()
_VALIDATION_FRACTION = 0.2  # held out where there are training images alone
_COMPARED = 16  # pairs of images that are read, to know a split from its copy


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
    validation_fraction: float | None = 0.0,
    layout: str = "auto",
    allow_one_class: bool = False,
    tables: Sequence[str] = (),
    columns: Columns = _ANY_COLUMNS,
) -> tuple[Plan, Findings]:
    """Plan a dataset of all images below the class folders, or of those in tables.

    Args:
      source: a folder, or a tar file of it. It holds the class folders; or train/ and
        perhaps validation/ and test/, under the names that people give them, which
        hold them; or is laid out as one of `known_layouts`.
      shards: files of the training split; see `default_shards`.
      validation_fraction: of the images of each class, to be held out of the training
        split where there is no validation folder, one at least of a class that has two.
        Below 1; 0 holds out none; None a fifth, where there are training images alone.
      layout: "auto", "classes" or "splits", see `layouts.recognise`.
      allow_one_class: whether one class is enough.
      tables: paths of tables that name the classes of images which lie in no class
        folders, see `labelled.recognise`.
      columns: of the tables, where their names do not tell.

    Returns:
      The plan, its classes in the order of their names, or of their numbers; and what
      to tell a person.

    Raises:
      DataError: no such folder, or folders that cannot be read or are empty; a layout
        that is another one, or may be; classes that the training split lacks, or that
        look alike.
    """
    opened = sources.open_source(source)
    place = Place(source, "", opened.root)
    tables = [_table_path(table, source) for table in tables]
    read = _recognise(place, layout, tables, columns)
    found = _find(read, place, tables)
    classes = read.order(found["train"].images)
    _check_classes(found, source)
    if len(classes) == 1 and not allow_one_class:
        raise _one_class(read.splits["train"], classes[0], tables)
    items = {split: _items(one.images, classes, opened) for split, one in found.items()}
    notes = [*read.notes, *_notes(read, found, classes)]
    notes += _copies(read, items, opened.pixels)
    if validation_fraction is None:
        notes += _hold_out_by_default(items)
    elif validation_fraction:
        _hold_out(items, validation_fraction)
    splits = _splits(items, opened.pixels, shards)
    both = tuple(Class(_text(one), _text(read.names.get(one, one))) for one in classes)
    skipped = sum((one.skipped for one in found.values()), collections.Counter())
    if not read.labels and read.splits["train"].folder is not opened.root:
        skipped += _beside_classes(opened.root)
    return (
        Plan(_text(opened.name), both, splits),
        Findings(notes, _skipped(skipped)),
    )


def _one_class(place: Place, name: str, tables: Sequence[str]) -> DataError:
    if tables:
        return DataError(
            f"{named(tables)}: all images are of one class, {name}: is the label in "
            "another --label_column? If not, give --allow_one_class"
        )
    table = layouts.likely_table(place) or ""
    where = ""
    if table.lower().endswith((".csv", ".tsv")):
        where = f", or are their labels in a table, --labels={table}"
    return DataError(
        f"{place} holds one class, {name}: is --source one folder too high or too "
        f"low{where}? If not, give --allow_one_class"
    )


def _splits(
    items: Mapping[str, list[Item]], pixels: sources.Pixels, shards: int | None
) -> dict[str, Split]:
    splits = {}
    for split, of_split in items.items():
        count = shards if split == "train" else None
        if count is None:
            count = default_shards(of_split)
        splits[split] = Split(pixels, shuffled(of_split), count)
    return splits


def _recognise(
    place: Place, layout: str, tables: Sequence[str], columns: Columns
) -> Layout:
    """Return the layout that the tables, its marks, or names of folders tell."""
    if tables:
        return labelled.recognise(place, tables, columns)
    known = known_layouts.recognise(place) if layout == "auto" else None
    return known or layouts.recognise(place.source, place.folder, layout)


def _table_path(path: str, source: str) -> str:
    """Return where a table is: as it is named, or so in the source."""
    inside = os.path.join(source, path)
    tar = sources.tar_of(source)
    if tar and not os.path.exists(path) and inside.startswith(f"{tar}/"):
        member = inside[len(tar) + 1 :]
        raise DataError(
            f"a table is read from a folder, not from {tar}: take it out, tar -xf "
            f"{shlex.quote(tar)} --no-anchored {shlex.quote(member)}, and name it by "
            "--labels"
        )
    return inside if os.path.exists(inside) and not os.path.exists(path) else path


def _is_below(path: str, source: str) -> bool:
    path, source = map(os.path.realpath, (path, source))
    return path.startswith(os.path.join(source, ""))


def _find(read: Layout, root: Place, tables: Collection[str]) -> dict[str, _Found]:
    """Return the images of each class of each split."""
    found = {
        split: _scan_labelled(place, read.labels[split])
        if split in read.labels
        else _scan(place, split)
        for split, place in read.splits.items()
    }
    if read.labels:  # splits may share their folders
        first = next(iter(found.values()))
        for one in found.values():
            one.skipped.clear()
        first.skipped.update(_beside_images(root, tables))
    return found


def _beside_images(root: Place, tables: Collection[str]) -> Mapping[str, int]:
    """Count what lies anywhere in a folder, and is neither an image nor a table."""
    below = [folder for _, folder in root.folder.all()]
    inside = {
        os.path.realpath(table) for table in tables if _is_below(table, root.source)
    }
    return {
        "others": sum(len(folder.others) for folder in below) - len(inside),
        "junk": sum(folder.junk for folder in below),
    }


def _scan_labelled(place: Place, labels: Mapping[str, str]) -> _Found:
    """Return the images of a split that have labels, by their classes."""
    found = _Found({}, collections.Counter())
    for path, size in place.files():
        if path in labels:
            found.images.setdefault(labels[path], []).append((path, size))
    return found


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
    if "train" not in read.labels:
        yield from _folder_notes(found["train"], read.splits["train"])
    source = read.splits["train"].source
    if beside := _splits_beside(os.path.abspath(source)):
        yield f"left out what lies beside {source}: {named(beside)}"


def _folder_notes(found: _Found, place: Place) -> Iterable[str]:
    """Yield what is odd about class folders."""
    if odd := _odd_folders(found, place):
        yield f"the images in {named(odd)} are taken for images of their class"
    if linked := _linked(place):
        yield "the classes {} and {} share a folder by a link".format(*linked)


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


def _copies(
    read: Layout, items: Mapping[str, Sequence[Item]], pixels: sources.Pixels
) -> Iterable[str]:
    """Yield which classes and splits hold images of others, under the same names.

    Few are read. Copies under other names are left to `validate`.
    """
    first: dict[tuple[str, int], tuple[str, Item]] = {}
    pairs: dict[str, list[tuple[Item, Item]]] = {}
    for split in read.splits:
        for item in items[split]:
            name = _own_name(read, split, item)
            other_split, other = first.setdefault((name, item.size), (split, item))
            if other is not item:
                where = f"{split} and {other_split}"
                if split == other_split:
                    where = f"classes of {split}"
                pairs.setdefault(where, []).append((item, other))
    for where, both in pairs.items():
        compared = both[:: -(-len(both) // _COMPARED)]
        same = [pair for pair in compared if _same(pixels, *pair)]
        if same:
            yield (
                f"{where} share images: {len(both):,} have the name and size of "
                f"another; of {len(compared)} that were compared, {len(same)} are the "
                f"same, for one {same[0][0].filename} and {same[0][1].filename}"
            )


def _own_name(read: Layout, split: str, item: Item) -> str:
    """Return what an image is called within its class."""
    if split in read.labels:
        return os.path.basename(item.filename)
    return item.filename[len(read.splits[split].path) :].partition("/")[2]


def _same(pixels: sources.Pixels, one: Item, other: Item) -> bool:
    if one.size > MAX_BYTES:
        return False
    try:
        return pixels.read(one) == pixels.read(other)
    except DataError:
        return False  # whoever reads it next names it


def _items(
    images: Mapping[str, list[tuple[str, int]]],
    classes: list[str],
    opened: sources.Opened,
) -> list[Item]:
    return [
        Item(path, label, opened.offsets.get(path, 0), size)
        for label, name in enumerate(classes)
        for path, size in images.get(name, [])
    ]


def _hold_out_by_default(items: dict[str, list[Item]]) -> Iterable[str]:
    """Hold some images out where all are there to learn from; yield what to say."""
    if list(items) != ["train"]:
        return
    most = max(collections.Counter(item.label for item in items["train"]).values())
    if most == 1:
        yield "each class has one image, which is learnt from: none is left to validate"
        return
    _hold_out(items, _VALIDATION_FRACTION)
    yield (
        f"no folder of images to validate on: {_VALIDATION_FRACTION:.0%} of each class "
        "are held out, one at least (--validation_fraction=F for another share, 0 for "
        "none)"
    )


def _hold_out(items: dict[str, list[Item]], fraction: float) -> None:
    """Move a fraction of each class from training to validation.

    Of a class of two or more images, one at least moves and one at least stays.
    """
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
        count = min(max(1, round(len(of_class) * fraction)), len(of_class) - 1)
        mixed = shuffled(of_class)
        held += mixed[:count]
        kept += mixed[count:]
    if not held:
        raise DataError(
            "each class has one image, which stays for training: leave out "
            "--validation_fraction"
        )
    items.update(train=kept, validation=held)
