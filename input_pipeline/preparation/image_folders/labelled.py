"""Images that lie in no class folders: tables name the class of each."""

import os
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from common import console
from common.console import named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders.folder_names import (
    UNLABELLED,
    split_of,
    splits_of,
)
from input_pipeline.preparation.image_folders.layouts import (
    ORDER,
    Layout,
    Place,
    descend,
)
from input_pipeline.preparation.image_folders.matching import Images, Match
from input_pipeline.preparation.image_folders.rows import (
    Columns,
    Row,
    Rows,
    class_order,
    read_rows,
)


class Labelled(NamedTuple):
    """The row of each image by its path, and what a person should know."""

    rows: Mapping[str, Row]
    notes: Sequence[str]


def recognise(place: Place, tables: Sequence[str], columns: Columns) -> Layout:
    """Return the splits of a folder whose images are labelled by tables.

    An image's split is what a column says; else the one that a table is named after, as
    train.csv, where there are folders of splits or several tables; else that of its
    folder; else training. A split of which no table names an image is read as class
    folders, or left out where it has none.

    Args:
      place: the source.
      tables: the paths of the tables.
      columns: what a person says of them.

    Raises:
      DataError: a table cannot be read; one of its lines fits several images; an image
        has several labels or splits; no training image has a label.
    """
    place = descend(place)
    folders = splits_of(place.inner)
    splits: dict[str, dict[str, str]] = {}
    rows: dict[str, Row] = {}
    notes: list[str] = []
    for path in tables:
        split = split_of(os.path.splitext(os.path.basename(path))[0])
        if split == UNLABELLED and len(tables) > 1:
            raise DataError(
                f"{path} is called after images without labels: leave it out, or give "
                "it another name"
            )
        places = [place.inner[name] for name, of in folders.items() if of == split]
        found = _read(places or [place], path, columns)
        notes += found.notes
        if not places and len(tables) == 1:
            split = None
        moved = [
            image
            for image, row in found.rows.items()
            if row.split not in (None, _split_of_folder(place, folders, image))
        ]
        if moved and folders:
            notes.append(
                f"{path} says another split than the folder of "
                f"{console.count(len(moved), 'image')}, for one {moved[0]}: the "
                "folders are not heeded"
            )
        for image, row in found.rows.items():
            its = row.split or split or _split_of_folder(place, folders, image)
            _require_same(rows, image, row._replace(split=its), path)
            rows[image] = row._replace(split=its)
            splits.setdefault(its, {})[image] = row.label
    layout = _with_folders(place, folders, splits)
    return Layout(
        layout.splits,
        [*notes, *layout.notes],
        splits,
        order=class_order if "train" in splits else sorted,
    )


def match(read: Rows, images: Images) -> Labelled:
    """Return the row of each image that a table names.

    Raises:
      DataError: a line fits several images, or an image has several labels.
    """
    rows: dict[str, Row] = {}
    missing: list[str] = []
    matches = [(row, images.find(row.name)) for row in read.rows]
    has_folders = any(match.is_sure and "/" in row.name for row, match in matches)
    # What is sure comes first: another folder's 1.jpg may be meant by what is not.
    for row, found in sorted(matches, key=lambda pair: not pair[1].is_sure):
        paths = [] if has_folders and not found.is_sure else found.paths
        if len(paths) > 1:
            raise _fits_several(read.path, row, paths)
        if not paths:
            missing.append(row.name)
        elif _is_meant(rows.get(paths[0]), row, found):
            _require_same(rows, paths[0], row, read.path)
            rows[paths[0]] = row
        else:
            missing.append(row.name)
    if not rows:
        raise DataError(
            f"{read.path} names {console.count(len(missing), 'image')}, for one "
            f"{missing[0]}, and none of them is in --source"
        )
    lines = console.count(len(missing), "line")
    notes = [f"left out {lines} of {read.path}: no image is called {named(missing)}"]
    return Labelled(rows, [*read.notes, *notes[: len(missing)]])


def _is_meant(there: Row | None, row: Row, found: Match) -> bool:
    """Whether a line that names other folders may mean an image all the same."""
    return found.is_sure or there is None or there.name == row.name or "/" in there.name


def _fits_several(path: str, row: Row, paths: Sequence[str]) -> DataError:
    return DataError(
        f"{path}, line {row.line}: {row.name} fits {len(paths)} images, "
        f"{named(sorted(paths))}: write its folder before the name, or name the table "
        "after the split of its images, as train.csv"
    )


def _read(places: Sequence[Place], path: str, columns: Columns) -> Labelled:
    """Read a table of the images in some folders."""
    paths = [image for one in places for image, _ in one.files()]
    images = Images(paths, places[0].source)
    found = match(read_rows(path, columns, images), images)
    return Labelled(found.rows, [*found.notes, *_contradicted(found.rows, path)])


def _require_same(rows: Mapping[str, Row], image: str, row: Row, path: str) -> None:
    """Refuse an image with two labels or in two splits."""
    there = rows.get(image)
    if there is None or there[1:3] == row[1:3]:
        return
    what = "labels" if there.label != row.label else "splits"
    one, other = (
        getattr(there, what[:-1]) or "none",
        getattr(row, what[:-1]) or "none",
    )
    raise DataError(
        f"{path}, line {row.line}: {image} has two {what}, {one} (line {there.line}) "
        f"and {other}: remove one, or take the image out"
    )


def _contradicted(rows: Mapping[str, Row], path: str) -> list[str]:
    """Tell of images that lie in the folder of another class."""
    labels = {row.label for row in rows.values()}
    odd = []
    for image, row in rows.items():
        folders = image.split("/")[:-1]
        if row.label not in folders and not labels.isdisjoint(folders):
            odd.append(image)
    if not odd:
        return []
    return [
        f"{path} says another class than the folder of "
        f"{console.count(len(odd), 'image')}, for one {odd[0]} "
        f"({rows[odd[0]].label}): the folders are not heeded"
    ]


def _split_of_folder(place: Place, folders: Mapping[str, str], image: str) -> str:
    top = image[len(place.path) :].partition("/")[0]
    return folders.get(top, "train")


def _has_classes(place: Place, trained: Set[str]) -> bool:
    """Whether folders are classes, not such as share out a million images: 0/1/2."""
    if not trained or place.is_flat:
        return not place.is_flat
    straight = all(one.folder.images for one in place.inner.values())
    return straight and not trained.isdisjoint(place.inner)


def _with_folders(
    place: Place, folders: Mapping[str, str], labels: Mapping[str, Mapping[str, str]]
) -> Layout:
    """Return where each split is: with labels, in class folders, or left out."""
    labelled = {image for of_split in labels.values() for image in of_split}
    splits = dict.fromkeys(labels, place)
    notes, rest = [], []
    for name in sorted(folders, key=lambda name: ORDER.index(folders[name])):
        split, inner = folders[name], place.inner[name]
        without = [image for image, _ in inner.files() if image not in labelled]
        if (
            len(without) < inner.images
            or split in splits
            or not _has_classes(inner, set(labels.get("train", {}).values()))
        ):
            rest += without
        else:
            splits[split] = inner
            notes.append(f"the classes of {split} are the folders in {inner}")
    beside = {image for image, _ in place.files()} - labelled
    for name in folders:
        beside -= {image for image, _ in place.inner[name].files()}
    rest += sorted(beside)
    if rest:
        images = console.count(len(rest), "image")
        notes.append(f"left out {images} without a label: {named(rest)}")
    if "train" not in splits:
        raise DataError(
            f"the tables name images of {named(splits)} alone: name a table of the "
            "training images, too, with --labels"
        )
    order = sorted(splits, key=ORDER.index)
    return Layout({split: splits[split] for split in order}, notes)
