"""Data sets that are known: Kaggle's ImageNet, Tiny ImageNet, Food-101, pets, birds.

Each is recognised by what lies there, also from a few folders above, and read as it is.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from common import console
from common.console import named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import labelled
from input_pipeline.preparation.image_folders.layouts import Layout, Place
from input_pipeline.preparation.image_folders.matching import Images
from input_pipeline.preparation.image_folders.rows import Row, Rows, synset_of_boxes
from input_pipeline.preparation.image_folders.sources import tar_of
from input_pipeline.preparation.image_folders.tables import Line, read
from input_pipeline.preparation.plan import SYNSET

SOLUTION, _MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
_ANNOTATIONS = "val_annotations.txt"
_LEVELS = 3  # of folders around ILSVRC's images; its tables lie in the outermost
_WORDS = ("words.txt", _MAPPING)


def recognise(place: Place) -> Layout | None:
    """Return how a known data set is to be read; None if it is none.

    Raises:
      DataError: it is one, and its labels are missing or contradict each other.
    """
    for one in around(place):
        for known in (_ilsvrc, _tiny_imagenet, _food101, _pets, _birds):
            if layout := known(one):
                return layout
    return None


def around(place: Place) -> Iterator[Place]:
    """Yield a folder, and those in it that are one with images alone."""
    yield place
    while len(place.inner) == 1:
        (place,) = place.inner.values()
        yield place


def is_synsets(place: Place) -> bool:
    """Whether all folders in one are called as ImageNet's classes."""
    return bool(place.inner) and all(re.fullmatch(SYNSET, one) for one in place.inner)


def is_ilsvrc_val(place: Place) -> bool:
    """Whether a folder is flat, and all its images are ImageNet's."""
    images = place.folder.images
    return bool(images) and all(
        name.startswith("ILSVRC2012_val_") for name, _ in images
    )


def _ilsvrc(place: Place) -> Layout | None:
    train, val = place.inner.get("train"), place.inner.get("val")
    if not (train and val and is_synsets(train) and is_ilsvrc_val(val)):
        return None
    table = find_beside(place, SOLUTION)
    if table is None:
        raise DataError(
            f"{place}/val holds ImageNet's validation images without labels: put "
            f"Kaggle's {SOLUTION} beside ILSVRC, or use the command imagenet with "
            f"--source={place} and the development kit for --labels"
        )
    labels = match_solution(table, val)
    return _classes_and_labels(place, labels, words_beside(place))


def match_solution(table: str, val: Place) -> labelled.Labelled:
    """Return the synset of each validation image by Kaggle's table."""
    images = Images([path for path, _ in val.files()], val.source)
    found = read(table, images.kind)
    columns = [*map(str.casefold, found.header)]
    if columns != ["imageid", "predictionstring"]:
        raise DataError(
            f"{table} has the columns {found.columns()}, where Kaggle's has ImageId "
            "and PredictionString: download it again"
        )
    rows = [
        Row(line.cells[0], synset_of_boxes(line, 1, table), "validation", line.number)
        for line in found.lines
    ]
    return labelled.match(Rows(table, rows, True, ()), images)


def _tiny_imagenet(place: Place) -> Layout | None:
    train, val = place.inner.get("train"), place.inner.get("val")
    if not train or not val or not is_synsets(train):
        return None
    if _ANNOTATIONS not in val.folder.others or not val.is_flat:
        return None
    table = os.path.join(str(val), _ANNOTATIONS)
    rows = [
        Row(line.cells[0], line.cells[1], "validation", line.number)
        for line in _lines(val, _ANNOTATIONS, columns=2)
    ]
    images = Images([path for path, _ in val.files()], place.source)
    labels = labelled.match(Rows(table, rows, True, ()), images)
    return _classes_and_labels(place, labels, words_beside(place))


def _classes_and_labels(
    place: Place, found: labelled.Labelled, words: Mapping[str, str]
) -> Layout:
    """Return train/ in class folders, and val/ by its labels; test/ has none."""
    labels = {path: row.label for path, row in found.rows.items()}
    notes = [*found.notes]
    without = [path for path, _ in place.inner["val"].files() if path not in labels]
    if without:
        images = console.count(len(without), "image")
        notes.append(
            f"left out {images} of {place.inner['val']} without a label: "
            f"{named(without)}"
        )
    notes += [
        f"left out {console.count(one.images, 'image')} in {one}: they have no classes"
        for name, one in place.inner.items()
        if name not in ("train", "val")
    ]
    return Layout(
        {"train": place.inner["train"], "validation": place.inner["val"]},
        notes,
        {"validation": labels},
        names=words,
    )


def _food101(place: Place) -> Layout | None:
    """images/apple_pie/1.jpg, and apple_pie/1 in meta/train.txt or meta/test.txt."""
    images, meta = place.inner.get("images"), place.folder.folders.get("meta")
    lists = ("train.txt", "test.txt")
    if not images or images.is_flat or not meta or not {*lists} <= {*meta.others}:
        return None
    inside = Place(place.source, f"{place.path}meta/", meta)
    lines = {name: _lines(inside, name) for name in lists}
    if not all("/" in one.cells[0] for name in lists for one in lines[name]):
        return None
    rows = [
        Row(one.cells[0], one.cells[0].rpartition("/")[0], name[:-4], one.number)
        for name in lists
        for one in lines[name]
    ]
    return _by_lists(place, images, Rows(str(inside), rows, True, ()))


def _pets(place: Place) -> Layout | None:
    """images/great_pyrenees_1.jpg, of annotations/trainval.txt or test.txt."""
    images = place.inner.get("images")
    lists = place.folder.folders.get("annotations")
    names = ("trainval.txt", "test.txt")
    if not images or not images.is_flat or not lists:
        return None
    if not {*names} <= {*lists.others}:
        return None
    inside = Place(place.source, f"{place.path}annotations/", lists)
    rows = []
    for name, split in zip(names, ("train", "test"), strict=True):
        for one in _lines(inside, name):
            rows.append(Row(one.cells[0], _breed(one.cells[0]), split, one.number))
    return _by_lists(place, images, Rows(str(inside), rows, True, ()))


def _breed(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _birds(place: Place) -> Layout | None:
    """images/001.Auk/1.jpg, 1 001.Auk/1.jpg in images.txt, 1 1 if it is to train."""
    images, names = place.inner.get("images"), ("images.txt", "train_test_split.txt")
    if not images or images.is_flat or not {*names} <= {*place.folder.others}:
        return None
    paths, splits = (_lines(place, name, columns=2) for name in names)
    training = {line.cells[0]: line.cells[1] == "1" for line in splits}
    rows = [
        Row(
            line.cells[1],
            line.cells[1].rpartition("/")[0],
            "train" if training.get(line.cells[0]) else "test",
            line.number,
        )
        for line in paths
        if line.cells[0] in training
    ]
    return _by_lists(place, images, Rows(f"{place}/images.txt", rows, True, ()))


def _by_lists(place: Place, folder: Place, rows: Rows) -> Layout:
    """Return the images that lists name, in the splits of the lists."""
    paths = [path for path, _ in folder.files()]
    found = labelled.match(rows, Images(paths, place.source))
    splits: dict[str, dict[str, str]] = {}
    for path, row in found.rows.items():
        splits.setdefault(str(row.split), {})[path] = row.label
    notes = [*found.notes]
    if without := [path for path in paths if path not in found.rows]:
        notes.append(
            f"left out {console.count(len(without), 'image')} that {rows.path} does "
            f"not list: {named(without)}"
        )
    return Layout(dict.fromkeys(splits, folder), notes, splits)


def find_beside(place: Place, name: str) -> str | None:
    """Return the path of a file in a folder, or in one of the three above it."""
    above = str(place)
    for _ in range(_LEVELS + 1):
        path = os.path.join(above, name)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(os.path.abspath(above))
    return None


def words_beside(place: Place) -> dict[str, str]:
    """Return the words for synsets, where a list of them lies beside the images."""
    paths = [find_beside(place, name) for name in _WORDS]
    words = {}
    for path in filter(None, paths):
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            for line in file:
                synset, _, text = line.strip().partition(" ")
                if "\t" in line:
                    synset, _, text = line.strip().partition("\t")
                if re.fullmatch(SYNSET, synset) and text.strip():
                    words[synset] = text.strip()
    return words


def _lines(place: Place, name: str, *, columns: int = 1) -> Sequence[Line]:
    """Return the lines of a list, which has no header, but so many columns or more."""
    path = os.path.join(str(place), name)
    if tar := tar_of(place.source):
        raise DataError(
            f"{tar} holds labels in a file, {place.path}{name}: unpack it, "
            f"mkdir photos && tar -xf {shlex.quote(tar)} -C photos, and give "
            "--source=photos"
        )
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            cells = [line.split() for line in file]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    lines = [Line(number, one) for number, one in enumerate(cells, 1) if one]
    if short := [line for line in lines if len(line.cells) < columns]:
        raise DataError(
            f"{path}, line {short[0].number}: {' '.join(short[0].cells)!r} has no "
            "label: download it again"
        )
    return lines
