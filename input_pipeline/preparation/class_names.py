"""A file of the classes' names, one a line, as people and other tools write it."""

import ast
import contextlib
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from common import storage_errors
from input_pipeline import dataset_info
from input_pipeline.errors import DataError

_ENCODINGS = {  # by what begins a file; the longer ones first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Of no class: what detectors and TF-Slim put before the first name, for label 0.
_BACKGROUND = {"background", "__background__", "_background_", "dummy", "none", "???"}
_CONTROLS = re.compile(r"[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_HEADINGS = {
    *("name", "names", "label", "labels", "class", "classes", "category"),
    *("class_name", "class name", "label_name", "classname", "id", "synset"),
}
_OTHER_FORMATS = (
    (r"item\s*\{", "a label map of the Object Detection API"),
    (r"<[!?a-zA-Z]", "a page of the web or XML"),
    (r"(?i)names\s*:\s*(\[.*)?$", "YAML"),
    (r"\w+\s*=\s*[\[({]", "Python"),
    (r"version https://git-lfs.*", "what Git LFS leaves in place of a file"),
)


# What stands around each name of a file that was written for a program.
_AROUND_NAMES = (
    (r"""(["']).*\1,?""", "has its names in quotes: take them off"),
    (r".*[,;]", "has a comma or a semicolon behind each name: take them off"),
    (r".*\t.*", "is a table with tabs: leave the column of the names alone"),
)


class _Numbering(NamedTuple):
    """A way to number lines; whether lines that match are numbered for sure."""

    pattern: re.Pattern[str]
    sure: bool


_NUMBERINGS = (
    _Numbering(
        re.compile(
            r"[#(]?(?P<number>\d{1,9})(\s*([:;,|\t=]|->)|[.)]\s|\s-\s)\s*(?P<name>.+)"
        ),
        True,
    ),
    _Numbering(
        re.compile(r"(?P<name>.+?)\s*([:;,|\t=]|->)\s*(?P<number>\d{1,9})"), True
    ),
    # Cars have years, "Audi TT 2012", and coins numbers, "1 euro".
    _Numbering(re.compile(r"#?(?P<number>\d{1,9})\s+(?P<name>.+)"), False),
    _Numbering(re.compile(r"(?P<name>.+?)\s+(?P<number>\d{1,9})"), False),
)


def read(
    path: str, *, first: int, note: Callable[[str], None], plain: bool = False
) -> tuple[str, ...]:
    """Read the names.

    Args:
      path: of a text file in UTF-8, with or without a byte order mark.
      first: the label of the first class, from which lines may be numbered; or from 0
        or 1.
      note: is told what has been left out.
      plain: whether a tool wrote the file, so that nothing in it is a person's remark.

    Raises:
      DataError: it cannot be read, holds something else, or two equal names.
    """
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", _text(path))]
    while lines and not lines[-1]:
        lines.pop()
    _check_lines(lines, path)
    if not plain:
        _check_remarks(lines, path)
        lines = _without_numbers(lines, first, path, note)
        _check_names(lines, path)
    if repeated := _repeated(lines):
        raise DataError(f"{path}: {repeated}: every class needs a name of its own")
    return tuple(lines)


def for_labels(
    names: tuple[str, ...], labels: range, path: str, note: Callable[[str], None]
) -> tuple[str, ...]:
    """Return the names of labels, without that of a background before the first.

    Args:
      names: as `read` returned them.
      labels: from that of the first class to the largest in the records.
      path: of the file, for messages.
      note: is told what has been left out.

    Raises:
      DataError: the first line may be a name or not.
    """
    more = len(names) - len(labels)
    if more <= 0:
        return names
    heading = re.split(r"\s*[,;|\t]\s*", names[0].lower())
    if more == 1 and not _HEADINGS.isdisjoint(heading):
        raise DataError(
            f"{path} holds one name more than there are classes, and line 1, "
            f"{names[0]!r}, looks like a heading: remove it"
        )
    if names[0].lower() not in _BACKGROUND or labels.start == 0:
        return names
    if more > 1:
        raise DataError(
            f"{path} begins with {names[0]!r}: remove this line if the next one names "
            f"label {labels.start}; if it names label 0, add --label_offset 0"
        )
    note(f"{path}: {names[0]!r} in line 1 is taken for label 0, which no class has")
    return names[1:]


def _text(path: str) -> str:
    dataset_info.require_file(path, "name a text file")
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            data: bytes = file.read()
    except (OSError, tf.errors.OpError) as error:
        raise storage_errors.cannot_read(path, error, mistake=DataError) from None
    marks = (name for mark, name in _ENCODINGS.items() if data.startswith(mark))
    encoding = next(marks, "UTF-16 or no text" if b"\0" in data else "")
    if encoding:
        raise DataError(f"{path} is {encoding}, not UTF-8: save it so")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it so") from None


def _check_lines(lines: Sequence[str], path: str) -> None:
    """Raise a DataError where a line can be no name."""
    if not all(lines) or not lines:
        where = f" (line {lines.index('') + 1})" if lines else ""
        raise DataError(
            f"{path} must hold one class name a line, and no empty line{where}"
        )
    for number, line in enumerate(lines, 1):
        if _CONTROLS.search(line):
            raise DataError(
                f"{path}, line {number}: {line!r} holds a control character: remove it"
            )


def _check_remarks(lines: Sequence[str], path: str) -> None:
    """Raise a DataError where there is more than names."""
    if what := _other_format(lines):
        raise DataError(f"{path} is {what}: write one class name a line")
    if all(line.startswith("- ") for line in lines):
        raise DataError(f"{path} is YAML: write one class name a line")
    remarks = [i for i, line in enumerate(lines) if re.match(r"#(?!\d)", line)]
    if 0 < len(remarks) < len(lines):
        raise DataError(
            f"{path}, line {remarks[0] + 1}: {lines[remarks[0]]!r} looks like a "
            "remark, not like a name: remove it"
        )


def _check_names(names: Sequence[str], path: str) -> None:
    """Raise a DataError where all names have what belongs to none."""
    for pattern, fault in _AROUND_NAMES:
        if all(re.fullmatch(pattern, name) for name in names):
            raise DataError(f"{path} {fault}")


def _other_format(lines: Sequence[str]) -> str | None:
    for pattern, what in _OTHER_FORMATS:
        if re.match(pattern, lines[0]):
            return what
    if lines[0][0] in "[({":
        for parse, what in ((json.loads, "JSON"), (ast.literal_eval, "Python")):
            # Of what ast raises besides: there may be 1,000 brackets, or bytes of 0.
            with contextlib.suppress(ValueError, SyntaxError, RecursionError):
                if isinstance(parse("\n".join(lines)), (dict, list, tuple, set)):
                    return what
    return None


def _without_numbers(
    lines: list[str], first: int, path: str, note: Callable[[str], None]
) -> list[str]:
    """Return the names of lines that are numbered in order; a DataError if in none."""
    for pattern, sure in _NUMBERINGS:
        found = [pattern.fullmatch(line) for line in lines]
        numbered = [one for one in found if one]
        if sure and len(lines) > len(numbered) > len(lines) / 2:
            odd = found.index(None)
            raise DataError(
                f"{path}, line {odd + 1}: {lines[odd]!r} has no number, as most lines "
                "have: remove it if it is a heading, or number all or none"
            )
        if len(numbered) < len(lines):
            continue
        names = [one["name"] for one in numbered]
        numbers = [int(one["number"]) for one in numbered]
        starts = {0, 1, first}
        in_order = any(
            numbers == list(range(start, start + len(lines))) for start in starts
        )
        if in_order and (sure or not _repeated(names)):
            note(f"{path}: the numbers of its lines are taken off the names")
            return names
        shuffled = min(numbers) in starts and sorted(numbers) == list(
            range(min(numbers), min(numbers) + len(lines))
        )
        if (sure or shuffled) and not in_order:
            raise DataError(
                f"{path}: its lines are numbered, but not from 0 or 1 in order "
                f"({lines[0]!r} comes first): put them in the order of the labels, the "
                "names alone"
            )
    return lines


def _repeated(names: Sequence[str]) -> str | None:
    """Say which lines have one name."""
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = lines.setdefault(unicodedata.normalize("NFC", name), number)
        if first != number:
            return f"lines {first} and {number} are both {name!r}"
    return None
