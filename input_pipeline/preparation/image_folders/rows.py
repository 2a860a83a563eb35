"""What a table's columns mean: which names the image, its class and its split."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from common.console import count, named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders.folder_names import (
    UNLABELLED,
    split_of,
)
from input_pipeline.preparation.image_folders.matching import Images
from input_pipeline.preparation.image_folders.tables import (
    FILE_NAMES,
    LABEL_NAMES,
    SPLIT_NAMES,
    Line,
    Table,
    key,
    read,
)
from input_pipeline.preparation.plan import SYNSET

_LOOKED_AT = 2000  # lines, to tell which column names the images
_FEW = 20  # images that may be of as many classes
_NO_LABELS = ("", "-1")  # what tables write where an image has none
_CONTROLS = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "t", "y"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "f", "n"), False),
}
_BOXES = "predictionstring"
_ZERO_OR_ONE = ("0", "1", "0.0", "1.0")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that a person names; what is None is found by its name or content."""

    file: str | None = None
    label: str | None = None
    split: str | None = None


class Row(NamedTuple):
    """One image of a table: its name, class, split (None: not said) and line."""

    name: str
    label: str
    split: str | None
    line: int


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a table says.

    Attributes:
      path: of the table.
      rows: one for each line with a label.
      has_splits: whether a column tells them.
      notes: what a person should know of it.
    """

    path: str
    rows: Sequence[Row]
    has_splits: bool
    notes: Sequence[str]


def read_rows(path: str, columns: Columns, images: Images) -> Rows:
    """Read a table of labels.

    Args:
      path: of the table.
      columns: those that a person names.
      images: that it may name.

    Raises:
      DataError: it cannot be read; what its columns mean is open; a line has no label
        that can be one, or several.
    """
    table = read(path, images.kind)
    file = _file_column(table, columns.file, images)
    notes: list[str] = []
    split = _Splits.find(table, columns.split, notes)
    taken = {file} | ({split.place} if split else set())
    label = _label_reader(table, columns.label, taken, notes)
    rows, without = [], 0
    for line in table.lines:
        row = Row(
            line.cells[file],
            label(line),
            split.of(line) if split else None,
            line.number,
        )
        if row.label in _NO_LABELS or row.split == UNLABELLED:
            without += 1
            continue
        _check_label(row, path)
        rows.append(row)
    if not rows:
        raise DataError(
            f"{path} has no label in any line: leave it out, or name another "
            "--label_column"
        )
    if without:
        notes.append(f"left out {count(without, 'line')} of {path} without a label")
    labels = {row.label for row in rows}
    _check_numbers(labels, path)
    if len(labels) == len(rows) > _FEW:
        notes.append(f"{path}: each image has a class of its own: is that its label?")
    notes += _several(rows, path)
    return Rows(path, rows, split is not None, notes)


def class_order(names: Iterable[str]) -> list[str]:
    """Return the classes of a table in order: numbers by their size, else by name."""
    every = list(names)
    if all(map(_is_number, every)):
        return sorted(every, key=lambda name: (float(name), name))
    return sorted(every)


def _file_column(table: Table, given: str | None, images: Images) -> int:
    """Return the column whose cells name most images."""
    if given is not None:
        return table.chosen(given, "file_column")
    every = range(len(table.header))
    for places in (table.named(FILE_NAMES), every):
        scores = {place: _fits(table, place, images) for place in places}
        best = [place for place in scores if scores[place] == max(scores.values()) > 0]
        if len(best) > 1 and not _agree(table, best, images):
            names = " and ".join(table.header[place] for place in best[:2])
            raise DataError(
                f"{table.path}: {names} name images: choose one with --file_column"
            )
        if best:
            return best[0]
    cells = table.lines[0].cells
    places = table.named(FILE_NAMES) or [0]
    raise DataError(
        f"{table.path} names no image of --source: line {table.lines[0].number}, for "
        f"one, has {cells[places[0]]}, where --source has {images.example()}: is it "
        "of other images, or does --file_column need a name?"
    )


def _fits(table: Table, place: int, images: Images) -> int:
    """Return how many images a column names; names with suffixes count twice."""
    step = -(-len(table.lines) // _LOOKED_AT)
    cells = {line.cells[place] for line in table.lines[::step]}
    return sum(map(images.kind, cells))


def _agree(table: Table, places: Sequence[int], images: Images) -> bool:
    """Whether columns name the same images, as file and path do."""
    return all(
        len({*(tuple(images.find(line.cells[place]).paths) for place in places)}) == 1
        for line in table.lines
    )


@dataclasses.dataclass(frozen=True)
class _Splits:
    """The column of splits; `yes` is the split of a column of yes and no, if any."""

    table: Table
    place: int
    yes: str | None

    @classmethod
    def find(
        cls, table: Table, given: str | None, notes: list[str]
    ) -> "_Splits | None":
        """Return it, by its name if none is given; None where there is none."""
        if given is not None:
            return cls._at(table, table.chosen(given, "split_column"))
        for place in table.named(SPLIT_NAMES):
            one = cls._at(table, place)
            values = list(dict.fromkeys(table.column(place)))
            if any(one.split(value) for value in values):
                return one
            notes.append(
                f"{table.path}: the column {table.header[place]} is left out: "
                f"{named(values)} name no splits"
            )
        return None

    @classmethod
    def _at(cls, table: Table, place: int) -> "_Splits":
        name, values = table.header[place], {*map(str.lower, table.column(place))}
        is_asked = key(name).startswith("is_") and values <= _BOOLEANS.keys()
        return cls(table, place, split_of(name) if is_asked else None)

    def split(self, value: str) -> str | None:
        """Return the split that a value means; None if it means none."""
        if self.yes is None:
            return split_of(value)
        if _BOOLEANS[value.lower()]:
            return self.yes
        return "validation" if self.yes == "train" else "train"

    def of(self, line: Line) -> str:
        """Return the split of a line."""
        value = line.cells[self.place]
        if found := self.split(value):
            return found
        raise DataError(
            f"{self.table.path}, line {line.number}: {value!r} in the column "
            f"{self.table.header[self.place]} names no split: write train, validation "
            "or test, or choose another --split_column"
        )


def _label_reader(
    table: Table, given: str | None, taken: set[int], notes: list[str]
) -> Callable[[Line], str]:
    """Return what reads the label of a line."""
    if given is not None:
        place = table.chosen(given, "label_column")
        return lambda line: line.cells[place]
    if boxes := table.named([_BOXES]):  # Kaggle's LOC_val_solution.csv
        return lambda line: synset_of_boxes(line, boxes[0], table.path)
    places = [place for place in table.named(LABEL_NAMES) if place not in taken]
    if len(places) > 1:
        places = [_best_label(table, places, notes)]
    if not places:
        places = [
            place
            for place in range(len(table.header))
            if place not in taken and not table.is_index(place)
        ]
    texts = [i for i in places if not all(map(_is_number, table.column(i)))]
    if len(texts) == 1 and not table.has_header:
        places = texts
    if len(places) == 1:
        return lambda line: line.cells[places[0]]
    if len(places) > 1 and _is_one_hot(table, places):
        return lambda line: _hot(table, places, line)
    raise DataError(
        f"{table.path} has the columns {table.columns()}: say by --label_column which "
        "one holds the classes"
    )


def synset_of_boxes(line: Line, place: int, path: str) -> str:
    """Return the synset before each of an image's boxes: "n01440764 0 0 9 9 ..."."""
    synsets = {*line.cells[place].split()[::5]}
    if len(synsets) != 1 or not re.fullmatch(SYNSET, min(synsets)):
        raise DataError(
            f"{path}, line {line.number}: {line.cells[place]!r} does not name one "
            "synset: download it again"
        )
    return synsets.pop()


def _best_label(table: Table, places: Sequence[int], notes: list[str]) -> int:
    """Return the names where numbers stand beside them, one for each."""
    if len({key(table.header[place]) for place in places}) < len(places):
        raise DataError(
            f"{table.path} has the columns {table.columns()}: choose one by its number "
            "with --label_column"
        )
    first = table.column(places[0])
    for place in places[1:]:
        other = table.column(place)
        pairs = len({*zip(first, other, strict=True)})
        if not pairs == len({*first}) == len({*other}):
            raise DataError(
                f"{table.path} has {table.header[places[0]]} and "
                f"{table.header[place]}, which are different classes: choose one with "
                "--label_column"
            )
    texts = [i for i in places if not all(map(_is_number, table.column(i)))]
    best = (texts or places)[0]
    rest = [table.header[place] for place in places if place != best]
    notes.append(
        f"{table.path}: the classes are those of {table.header[best]}, in order; "
        f"{named(rest)} says the same and is left out"
    )
    return best


def _is_one_hot(table: Table, places: Sequence[int]) -> bool:
    return all(
        line.cells[place] in _ZERO_OR_ONE for line in table.lines for place in places
    )


def _hot(table: Table, places: Sequence[int], line: Line) -> str:
    """Return the one class of a line that has 1 in its column."""
    found = [table.header[place] for place in places if float(line.cells[place])]
    if len(found) != 1:
        raise DataError(
            f"{table.path}, line {line.number}: {named(found) or 'no class'} with 1, "
            "where each image needs one class: take such images out, or choose a "
            "--label_column"
        )
    return found[0]


def _check_label(row: Row, path: str) -> None:
    if _CONTROLS.search(row.label):
        raise DataError(
            f"{path}, line {row.line}: the label {row.label!r} holds a control "
            "character: remove it"
        )


def _check_numbers(labels: set[str], path: str) -> None:
    """Refuse measurements, and numbers that are written in two ways."""
    if not all(map(_is_number, labels)):
        return
    if fractions := [one for one in labels if not float(one).is_integer()]:
        raise DataError(
            f"{path}: {min(fractions)} is a number, no class: choose another "
            "--label_column"
        )
    by_number: dict[float, str] = {}
    for one in sorted(labels):
        if (other := by_number.setdefault(float(one), one)) != one:
            raise DataError(
                f"{path} has the labels {other} and {one}, which are one number: write "
                "it in one way"
            )


def _several(rows: Sequence[Row], path: str) -> list[str]:
    """Tell of labels that are made of others: an image may have several there."""
    labels = {row.label for row in rows}
    for label in sorted(labels):
        parts = [part for part in re.split(r"[\s,;|]+", label) if part]
        if len(parts) > 1 and labels.issuperset(parts):
            return [
                f"{path}: {label} is a class of its own, beside {named(parts)}: take "
                "such images out if they have several"
            ]
    return []


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text) is not None
