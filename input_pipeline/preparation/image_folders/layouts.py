"""How a folder of images is laid out: where its splits and its classes are.

Only what has one reading is read. Where a folder may be a split or a class, or lies one
level too high, the refusal says what it looks like and what to type.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from common import console
from common.console import named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders.folder_names import (
    UNLABELLED,
    are_split_and_class,
    half_named,
    is_container,
    is_derived,
    is_no_class,
    split_of,
    splits_of,
)
from input_pipeline.preparation.image_folders.folders import Folder
from input_pipeline.preparation.plan import SYNSET

_NEEDED = "DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE and DIR/validation/CLASS/IMAGE"
_HOW = "links will do, docs/data.md (Prepare) shows how"
ORDER = ("train", "validation", "test", UNLABELLED)
_TABLES = (".csv", ".tsv", ".txt", ".json", ".parquet", ".xlsx", ".mat")
# What else people have, and what to do with it.
_OTHER_FORMS = {
    rf"{SYNSET}\.tar": "use the command imagenet (--train_tar) for the tar file of",
    r"\.zip|\.tar|\.tgz|\.7z|\.rar|\.gz|\.bz2|\.xz|\.zst": "unpack",
    r"\.tfrecords?|\.tfrec|-\d{5}-of-\d{5}": "use the command tfrecords for",
    r"\.npz?|\.h5|\.hdf5|\.parquet|\.pkl|\.mat|\.lmdb|\.mdb": "write images out of",
}
_READ_TABLES = (".csv", ".tsv", ".txt")
_NO_TABLES = ("readme", "license", "requirements")


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder below the source.

    Attributes:
      source: the path of the source.
      path: below it, "" or "train/".
      folder: what is there.
      above: the folders that contain it.
    """

    source: str
    path: str
    folder: Folder
    above: tuple[Folder, ...] = ()

    def __str__(self) -> str:
        return os.path.join(self.source, self.path).rstrip("/") or "/"

    @property
    def name(self) -> str:
        """The name of the folder itself, "" of the source."""
        return self.path.rstrip("/").rpartition("/")[2]

    @functools.cached_property
    def inner(self) -> "dict[str, Place]":
        """The folders in it that hold images at any depth, by name."""
        above = (*self.above, self.folder)
        return {
            name: self.below(name)
            for name, one in self.folder.folders.items()
            if any(below.images for _, below in one.all(above=above))
        }

    def below(self, name: str) -> "Place":
        """Return a folder in it."""
        above = (*self.above, self.folder)
        one = self.folder.folders[name]
        return Place(self.source, f"{self.path}{name}/", one, above)

    def choose(self, layout: str) -> str:
        """Return how to say that the folders in it are "classes" or "splits"."""
        source = f"give --source={self} with" if self.path else "choose"
        return f"{source} --layout={layout}"

    @property
    def images(self) -> int:
        """How many images it holds, at any depth."""
        below = self.folder.all(above=self.above)
        return sum(len(folder.images) for _, folder in below)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the path below the source and the bytes of each image in it."""
        for path, folder in self.folder.all(above=self.above):
            for name, size in folder.images:
                yield f"{self.path}{path}{name}", size

    @property
    def is_flat(self) -> bool:
        """Whether its images lie in no class folders, but perhaps in one called all."""
        if len(self.inner) != 1:
            return not self.inner
        ((name, one),) = self.inner.items()
        return is_no_class(name) and not one.inner


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the images of each split are, and what to say of the rest.

    Attributes:
      splits: the folder of each, which holds its class folders.
      notes: what a person should know.
      labels: of a split without class folders, the class of each image by its path.
      order: the classes, where they are not in the order of their names.
      names: of classes, for people, where their folders are called otherwise.
    """

    splits: Mapping[str, Place]
    notes: Sequence[str] = ()
    labels: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    order: Callable[[Iterable[str]], list[str]] = sorted
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)


def recognise(source: str, root: Folder, reading: str = "auto") -> Layout:
    """Return where the splits of a folder are.

    Args:
      source: its path.
      root: what it holds.
      reading: what the folders in it are: "classes", "splits", or "auto" where one of
        the two is plain.

    Raises:
      DataError: it has no such layout, or more than one.
    """
    place = Place(source, "", root)
    if not place.inner:
        raise _no_classes(place)
    if reading == "classes":
        return Layout({"train": place})
    if reading == "splits":
        return _read_splits(place, splits_of(place.inner))
    within = descend(place)
    layout = _read(within)
    if (train := layout.splits["train"]) is not within:
        _check_classes_of_split(train, within)
    if within is place or len(layout.splits["train"].inner) == 1:
        return layout if within is place else Layout({"train": place})
    (name,) = place.inner
    raise DataError(
        f"{place} holds one folder, {name}, around the classes: give "
        f"--source={within}, or if {name} is the class, choose --layout=classes "
        "--allow_one_class"
    )


def descend(place: Place) -> Place:
    """Enter folders that hold nothing but one folder with further ones."""
    while len(place.inner) == 1 and not splits_of(place.inner):
        (one,) = place.inner.values()
        if not one.inner:
            break
        place = one
    return place


def _read(place: Place) -> Layout:
    """Return the layout if there is one alone."""
    splits = splits_of(place.inner)
    rest = [name for name in place.inner if name not in splits]
    if splits and not rest:
        return _read_splits(place, splits)
    if not splits and (splits := half_named(place.inner)):
        rest = [name for name in place.inner if name not in splits]
        raise _unnamed_training(place, splits, rest)
    # A class may be called train: it is one of vehicles, and holds images.
    if any(
        split != "train" or not place.inner[name].folder.images
        for name, split in splits.items()
    ):
        raise _splits_and_others(place, splits, rest)
    _check_classes(place)
    return Layout({"train": place}, [*_deeper(place), *_lists(place)])


def _splits_and_others(
    place: Place, splits: Mapping[str, str], rest: Sequence[str]
) -> DataError:
    if are_split_and_class(place.inner):
        return DataError(
            f"{place} holds {named(place.inner)}, by the name each of a split and of a "
            f"class: sort them into train/CLASS and validation/CLASS; {_HOW}"
        )
    if "train" in splits.values():
        return DataError(
            f"{place} holds the splits {', '.join(splits)} and {named(rest)}: move "
            f"{named(rest)} elsewhere, or {place.choose('splits')} to leave that out, "
            "--layout=classes if all are classes"
        )
    if all(split_of(name) == "train" or is_container(name) for name in rest):
        return _unnamed_training(place, splits, rest)
    return DataError(
        f"{place} holds {named(splits)}, by the name a split, beside {named(rest)}: "
        f"move it elsewhere, or {place.choose('classes')} if all are classes"
    )


def _unnamed_training(
    place: Place, splits: Mapping[str, str], training: Sequence[str]
) -> DataError:
    return DataError(
        f"{place} holds {named(splits)}, by the name a split, beside "
        f"{named(training)}: if you train on that, name it train (a link will do), or "
        f"{place.choose('classes')} if all are classes"
    )


def _read_splits(place: Place, splits: Mapping[str, str]) -> Layout:
    """Take folders for splits; what has no labels is left out, with a word."""
    if "train" not in splits.values():
        raise DataError(
            f"{place} holds {named(place.inner)}, but no folder train with images: add "
            f"it, or if these are classes, {place.choose('classes')}"
        )
    empty = [name for name in place.folder.folders if name not in place.inner]
    notes = [f"left out what holds no image in {place}: {named(empty)}"] * bool(empty)
    rest = [name for name in place.inner if name not in splits]
    notes += [f"left out what is no split in {place}: {named(rest)}"] * bool(rest)
    found: dict[str, Place] = {}
    for name in sorted(splits, key=lambda name: ORDER.index(splits[name])):
        split, outer = splits[name], place.inner[name]
        inner = _unpack(outer)
        if inner is not outer:
            notes.append(f"the classes of {name} are those in {inner}")
        is_flat = inner.is_flat and (
            split == "train" or inner.inner.keys().isdisjoint(found["train"].inner)
        )
        if split == UNLABELLED or (is_flat and split == "test"):
            images = console.count(outer.images, "image")
            notes.append(f"left out {images} in {outer}: they have no classes")
        elif is_flat:
            raise _flat_split(place, outer, split)
        elif split in found:
            raise DataError(
                f"{place} holds {found[split].path.partition('/')[0]} and {name}, both "
                f"for {split}: move one elsewhere"
            )
        else:
            found[split] = inner
    return Layout(found, notes)


def _unpack(place: Place) -> Place:
    """Enter a folder that comes of the way archives are packed: train/train."""
    if len(place.inner) != 1:
        return place
    ((name, one),) = place.inner.items()
    is_packed = is_container(name) or name.casefold() == place.name.casefold()
    return one if is_packed and one.inner else place


def _all_flat(place: Place) -> bool:
    return all(one.is_flat for one in place.inner.values())


def _flat_split(place: Place, flat: Place, split: str) -> DataError:
    """Return the refusal of a split without class folders."""
    error = _no_classes(flat)
    if _all_flat(place):
        way = place.choose("classes")
        return DataError(f"{error}; or if these are classes, {way}")
    if split == "validation":
        return DataError(
            f"{error}; or move it elsewhere and hold out a --validation_fraction"
        )
    return error


def _check_classes(place: Place) -> None:
    """Refuse folders that are hardly classes."""
    containers = [name for name in place.inner if is_container(name)]
    if len(place.inner) == 1:
        if containers:
            alone = place.inner[containers[0]]
            raise _no_classes(place if place.folder.images else alone)
        return
    _check_splits_within(place)
    _check_copies(place, place.choose("classes"))
    if containers:
        inner = [place.inner[name] for name in containers]
        deeper = [one for one in inner if len(one.inner) > 1]
        way = f"give --source={deeper[0]}" if deeper else "move it elsewhere"
        raise DataError(
            f"{place} holds {named(place.inner)}, and {containers[0]} is hardly a "
            f"class: {way}, or {place.choose('classes')} if all are classes"
        )
    _check_shared(place)


def _check_classes_of_split(train: Place, above: Place) -> None:
    """Refuse a split or a folder of masks among the classes of a split."""
    names = [name for name in train.inner if is_container(name)]
    splits = splits_of(train.inner)
    names += [name for name, split in splits.items() if split != "train"]
    if names:
        inner = len(splits) == len(train.inner)
        way = f"give --source={train}" if inner else "move it elsewhere"
        raise DataError(
            f"{train} holds {named(train.inner)}, and {names[0]} is hardly a class: "
            f"{way}, or {above.choose('splits')} if all are classes"
        )
    _check_copies(train, above.choose("splits"))


def _check_splits_within(place: Place) -> None:
    """Refuse a class of splits, or a set of its own beside classes."""
    for name, one in place.inner.items():
        splits = splits_of(one.inner)
        rest = [inner for inner in one.inner if inner not in splits]
        if not splits or not all(map(is_container, rest)):
            continue
        first = min(splits, key=lambda name: ORDER.index(splits[name]))
        if one.inner[first].inner:
            raise DataError(
                f"{place} holds the splits {named(splits)} in {name}: give "
                f"--source={one}, or {place.choose('classes')} if {name} is a class"
            )
        if len({*splits.values()}) > 1:
            raise DataError(
                f"{place} holds {named(splits)} in its class {name}: --source needs "
                f"them the other way round, {first}/{name}; {_HOW}"
            )


def _check_copies(place: Place, way: str) -> None:
    """Refuse a class that holds the folders beside it once more, as archives do."""
    for name, one in place.inner.items():
        again = sorted((_unpack(one).inner.keys() & place.inner.keys()) - {name})
        if again and len(again) >= min(2, len(place.inner) - 1):
            raise DataError(
                f"{place} holds {named(again)}, and {one} holds folders of the same "
                f"names: move that elsewhere, or {way} if it is a class"
            )


def _check_shared(place: Place) -> None:
    """Refuse folders that hold the same folders: splits of other names, or domains."""
    inner = [_unpack(one) for one in place.inner.values()]
    most = max(inner, key=lambda one: len(one.inner))
    shared = most.inner.keys()
    if len(shared) < 2 or any(one.folder.images for one in inner):
        return
    if not all(one.inner.keys() <= shared for one in inner):
        return
    what = f"{named(place.inner)} in {place} hold the same folders, {named(shared)}"
    if derived := [name for name in shared if is_derived(name)]:
        raise DataError(
            f"{what}: move {named(derived)} elsewhere, or {place.choose('classes')} if "
            "those are images of the class, too"
        )
    raise DataError(
        f"{what}: if those are the classes, give --source={most} for that alone, or "
        "sort all into train/CLASS and validation/CLASS; if not, "
        f"{place.choose('classes')}"
    )


def _lists(place: Place) -> list[str]:
    """Tell of files that seem to say which image is of which split."""
    lists = {os.path.splitext(name)[0]: name for name in place.folder.others}
    found = [lists[name] for name in splits_of(lists)]
    return [f"left out the splits of {named(found)} in {place}"] * bool(found)


def _deeper(place: Place) -> list[str]:
    """Tell what is taken for classes where it could be the folders in them."""
    inner = list(place.inner.values())
    if any(one.folder.images or len(one.inner) < 2 for one in inner):
        return []
    deep = [f"{one.name}/{name}" for one in inner[:2] for name in one.inner]
    return [
        f"the {len(inner):,} folders in {place} are the classes, not those in them "
        f"({named(deep, 2)})"
    ]


def _no_classes(place: Place) -> DataError:
    """Return the refusal of a folder without class folders."""
    below = place.folder.all(above=place.above)
    images = [name for _, folder in below for name, _ in folder.images]
    if not images:
        return DataError(f"{place} holds no image: {_way_in(place)}")
    count = console.count(len(images), "image")
    said = f"{place} holds no class folders, but {count}"
    if min(images).startswith("ILSVRC2012_val_"):
        return DataError(
            f"{said}: use the command imagenet, with --source and --labels of the "
            "devkit, or put LOC_val_solution.csv beside"
        )
    way = f"into {place}/CLASS/IMAGE; {_HOW}"
    if not (table := likely_table(place)):
        return DataError(
            f"{said}: sort them by their labels {way}; or name a table of them by "
            "--labels"
        )
    if not table.lower().endswith(_READ_TABLES):
        return DataError(
            f"{said}: write a CSV of their files and labels, if {table} tells them, "
            "and name it by --labels"
        )
    return DataError(
        f"{said}: give --labels={table}, if their labels are there, or sort them {way}"
    )


def _way_in(place: Place) -> str:
    """Return what to do with a folder without images."""
    for name in place.folder.others:
        for endings, way in _OTHER_FORMS.items():
            if re.search(rf"({endings})$", name, re.IGNORECASE):
                return f"{way} {name}"
    return f"--source needs {_NEEDED}"


def likely_table(place: Place) -> str | None:
    """Return the path of a file that may hold labels: there, below or above."""
    around = [place, *_above(place)]
    around[1:1] = [place.below(name) for name in place.folder.folders]
    for one in around:
        tables = [
            name
            for name in one.folder.others
            if name.lower().endswith(_TABLES)
            and not name.lower().startswith(_NO_TABLES)
            and split_of(os.path.splitext(name)[0]) != UNLABELLED
        ]
        if tables:
            best = min(tables, key=lambda name: _likely(name, place.name))
            return os.path.join(str(one), best)
    return None


def _likely(name: str, folder: str) -> tuple:
    """Sort tables: such as are read, that are called as their folder, of training."""
    split = split_of(os.path.splitext(name)[0]) or "train"
    is_read = name.lower().endswith(_READ_TABLES)
    return not is_read, folder not in name, ORDER.index(split), name


def _above(place: Place) -> list[Place]:
    """Return the folders around one, the nearest first."""
    parts = place.path.split("/")[:-1]
    return [
        Place(place.source, "".join(f"{part}/" for part in parts[:depth]), folder)
        for depth, folder in reversed([*enumerate(place.above)])
    ]
