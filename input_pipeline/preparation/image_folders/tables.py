"""A table of labels, CSV or TSV, as people and other tools write it: lines to cells."""

import codecs
import csv
import dataclasses
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence

from input_pipeline import dataset_info
from input_pipeline.errors import DataError

FILE_NAMES = (
    *("file", "filename", "file_name", "files", "fname", "filepath", "file_path"),
    *("path", "image", "image_id", "imageid", "image_name", "image_path", "images"),
    *("imagename", "img", "img_name", "img_path", "id", "id_code", "name", "photo"),
    *("photo_id", "picture", "isic_id", "image_file", "filepaths", "uuid", "key"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "classes", "class_name", "classname", "class_label"),
    *("category", "category_name", "breed", "species", "target", "label_name"),
    *("class_id", "label_id", "category_id", "classid", "diagnosis", "dx", "y"),
    *("variety", "disease", "tag", "tags", "expected", "level", "emotion", "type"),
    *("labels_name", "image_label", "ground_truth", "truth", "target_name"),
)
SPLIT_NAMES = (
    *("split", "set", "fold", "subset", "partition", "phase", "usage", "dataset"),
    *("data_set", "mode", "is_valid", "is_val", "is_validation", "is_train"),
    *("is_test", "purpose", "split_name", "tvt"),
)
_KNOWN = {*FILE_NAMES, *LABEL_NAMES, *SPLIT_NAMES}
# The index that pandas writes as the first column has no name.
_NO_NAMES = ("", "unnamed: 0", "index")
_DELIMITERS = "\t;,|"
_MOST_BYTES = 1 << 30
_LFS = "version https://git-lfs"  # what Git LFS leaves in place of a file
_SAMPLE = 1 << 14  # characters that tell what divides the columns
_OTHERS = (".json", ".parquet", ".xlsx", ".xls", ".mat", ".pkl", ".xml", ".npy")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
      number: in the file, from 1; of a line break in quotes, where it ends.
      cells: without spaces around them.
    """

    number: int
    cells: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      path: of the file.
      header: the columns' names; "1", "2" ... where the file has none.
      lines: below the header, each with as many cells.
      has_header: whether the file has one.
    """

    path: str
    header: Sequence[str]
    lines: Sequence[Line]
    has_header: bool = True

    def column(self, place: int) -> list[str]:
        """Return the cells of a column."""
        return [line.cells[place] for line in self.lines]

    def named(self, names: Sequence[str]) -> list[int]:
        """Return the columns that have one of these names, in the names' order."""
        plain = [key(name) for name in self.header]
        return sorted(
            (i for i, name in enumerate(plain) if name in names),
            key=lambda i: names.index(plain[i]),
        )

    def chosen(self, name: str, flag: str) -> int:
        """Return the column that a person names, or numbers from 1.

        Raises:
          DataError: there is none, or there are two.
        """
        places = [i for i, one in enumerate(self.header) if one == name]
        places = places or [
            i for i, one in enumerate(self.header) if key(one) == key(name)
        ]
        if not places and name.isdecimal() and 1 <= int(name) <= len(self.header):
            places = [int(name) - 1]
        if len(places) != 1:
            many = "two columns" if places else "no column"
            raise DataError(
                f"{self.path} has {many} {name}, but {self.columns()}: give --{flag} "
                "a name that is there once, or its number from 1"
            )
        return places[0]

    def columns(self) -> str:
        """Return the names of the columns for a message."""
        return ", ".join(one or "one without a name" for one in self.header)

    def is_index(self, place: int) -> bool:
        """Whether a column has no name, or the one that pandas gives such."""
        return key(self.header[place]) in _NO_NAMES


def key(name: str) -> str:
    """Return a column's name as it is compared: "Image ID" is image_id."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def read(path: str, is_file: Callable[[str], object]) -> Table:
    """Read a table.

    Args:
      path: of a text file. Tabs, semicolons, commas, bars or spaces divide it; cells
        may be in quotes; lines end as on any system; UTF-8, or UTF-16 with its mark.
      is_file: whether a cell names an image. A first line with such a cell is no
        header.

    Raises:
      DataError: it cannot be read, holds something else, or lines of other lengths.
    """
    text = _text(path)
    if first := re.match(r"sep=(.)\r?\n", text):  # as Excel writes it
        text = text[first.end() :]
    delimiter = first[1] if first else _delimiter(text)
    lines = [one for one in _split(text, delimiter, path) if any(one.cells)]
    if not lines:
        raise DataError(f"{path} is empty: name a table of files and labels")
    width = len(lines[0].cells)
    if width < 2:
        raise DataError(
            f"{path} has one column: name a table with one of files and one of labels"
        )
    for line in lines:
        if len(line.cells) != width:
            raise DataError(
                f"{path}, line {line.number}: {len(line.cells)} columns, where line "
                f"{lines[0].number} has {width}: put what holds the divider in quotes"
            )
    if _is_header(lines[0], is_file):
        return _checked(Table(path, lines[0].cells, lines[1:]))
    numbers = [str(place + 1) for place in range(width)]
    return Table(path, numbers, lines, has_header=False)


def _checked(table: Table) -> Table:
    if not table.lines:
        raise DataError(f"{table.path} holds one line alone: name a whole table")
    return table


def _is_header(line: Line, is_file: Callable[[str], object]) -> bool:
    known = [key(cell) in _KNOWN for cell in line.cells]
    return sum(known) > 1 or not any(map(is_file, line.cells))


def _text(path: str) -> str:
    if path.lower().endswith(_OTHERS):
        raise DataError(
            f"{path} is no CSV or TSV: write one of it, with a line for each image, "
            "its file and its label"
        )
    dataset_info.require_file(path, "name a table")
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise DataError(f"{path} has more than 1 GiB: name a table of labels")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if data.startswith(marks) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it so") from None
    if "\0" in text or text.startswith(_LFS):
        raise DataError(f"{path} holds no table: name a CSV or TSV, or download it")
    return text


def _delimiter(text: str) -> str:
    """Return what divides all of the first lines alike; a space if nothing does."""
    # Until the last line of the sample, which may be cut off.
    sample = io.StringIO(text[:_SAMPLE], newline=None).readlines()
    sample = sample[:-1] if len(text) > _SAMPLE else sample
    first = next((line for line in sample if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", first)
    found = [one for one in _DELIMITERS if one in unquoted]
    found.sort(key=unquoted.count, reverse=True)
    for one in found:
        rows = csv.reader(sample, delimiter=one, skipinitialspace=True)
        if len({len(cells) for cells in rows if any(cells)}) == 1:
            return one
    return found[0] if found else " "


def _split(text: str, delimiter: str, path: str) -> list[Line]:
    # Without newline="" a carriage return alone would be no end of a line.
    lines: Iterable[str] = io.StringIO(text, newline=None)
    if delimiter == " ":
        lines = map(str.strip, lines)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        return [Line(reader.line_num, [*map(str.strip, cells)]) for cells in reader]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}: mend its quotes"
        ) from None
