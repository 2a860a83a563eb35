"""What is said of many images as a file: CSV, JSON or JSON lines.

Nothing slow is imported: whether a file may be written is known before any work.
"""

import collections
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from common.console import table
from train.mistakes import confusion
from train.mistakes.confusion import Class

_HEAD = re.compile(
    rb"file,label,class,probability(,class_\d+,probability_\d+)*,problem\r?\n"
)
_OF_CLASSES = ("class", "images", "right", "accuracy")
_KEYS = ("file", "label", "class", "probability", "top", "problem")
_REPORT = ("images", "labelled", "right", "accuracy", "classes", "confusion_matrix")
_MOST_CLASSES = 20  # that a person is shown


class Row(NamedTuple):
    """An image.

    Attributes:
      file: its path, or the place of its record.
      label: name of the class that it is of; None where nobody knows.
      top: names of the likeliest classes with their probabilities, the first one first;
        none of an image that could not be classified.
      problem: why not, or in what it is damaged; "" for nothing.
    """

    file: str
    label: str | None
    top: tuple[tuple[str, float], ...]
    problem: str

    @property
    def predicted(self) -> str | None:
        """The likeliest class."""
        return self.top[0][0] if self.top else None


def classes(rows: Sequence[Row], names: Sequence[str]) -> list[Class]:
    """Return the classes that images are of, as `names` are ordered.

    Args:
      rows: all images; those without a label, or that could not be classified, do not
        count.
      names: of all classes.
    """
    counts = collections.Counter(
        (row.label, row.predicted)
        for row in rows
        if row.label is not None and row.predicted is not None
    )
    return [one for one in confusion.classes(counts, names) if one.images]


def files(
    path: str, rows: Sequence[Row], names: Sequence[str], top: int
) -> dict[str, bytes]:
    """Return what files to write, by their paths.

    Args:
      path: ends in .csv, .json or .jsonl. Beside a .csv stands another one of the
        classes, where labels are known.
      rows: the images.
      names: of all classes.
      top: the most classes that a row has.
    """
    found = classes(rows, names)
    if path.endswith(".json"):
        return {path: _json(rows, found, names)}
    if path.endswith(".jsonl"):
        lines = (f"{_dumps(_record(row))}\n" for row in rows)
        return {path: "".join(lines).encode()}
    top = max(top, 1)  # of the head, even where nothing was classified
    written = {path: _csv([_head(top), *(_cells(row, top) for row in rows)])}
    if found:
        written[beside(path)] = _csv(_matrix(found, names))
    return written


def beside(path: str) -> str:
    """Return where the table of classes stands beside a .csv of images."""
    return f"{path.removesuffix('.csv')}.classes.csv"


def is_ours(path: str) -> Callable[[bytes], bool]:
    """Return what tells whether a file of this name was written here."""

    def tells(data: bytes) -> bool:
        if path.endswith(".csv"):
            head = ",".join(_OF_CLASSES).encode() + b","
            return bool(_HEAD.match(data)) or data.startswith(head)
        text = data.partition(b"\n")[0] if path.endswith(".jsonl") else data
        try:
            found = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            return False
        keys = _KEYS if path.endswith(".jsonl") else _REPORT
        return not data or (isinstance(found, dict) and tuple(found) == keys)

    return tells


def summary(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Yield the accuracy in lines: of all, then of the classes, the worst ones first.

    Nothing where no label is known.
    """
    found = classes(rows, names)
    images, right = sum(c.images for c in found), sum(c.right for c in found)
    if not images:
        return
    yield f"Right: {right:,} of {images:,} with a label ({right / images:.2%})"
    worst = confusion.worst_first(found)
    lines = [("class", "images", "right", "", "most often taken for")]
    for one in worst[:_MOST_CLASSES]:
        wrong = "".join(f"{name} ({n:,})" for name, n in one.wrong()[:1])
        share = f"{one.accuracy:.1%}"
        lines.append((one.name, f"{one.images:,}", f"{one.right:,}", share, wrong))
    yield from table(lines, right=(1, 2, 3))
    if len(worst) > _MOST_CLASSES:
        yield f"... and {len(worst) - _MOST_CLASSES:,} classes with more right"


def _head(top: int) -> list[str]:
    head = ["file", "label", "class", "probability"]
    for number in range(2, top + 1):
        head += [f"class_{number}", f"probability_{number}"]
    return [*head, "problem"]


def _cells(row: Row, top: int) -> list[str]:
    pairs = [cell for name, share in row.top for cell in (name, f"{share:.6g}")]
    empty = [""] * (2 * top - len(pairs))
    return [row.file, row.label or "", *pairs, *empty, row.problem]


def _matrix(found: Sequence[Class], names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the table of the classes: a line is what images are of, a column for what.

    The columns are all classes that an image was taken for, or is of.
    """
    columns = _columns(found, names)
    yield [*_OF_CLASSES, *columns]
    for one, counts in zip(found, confusion.matrix(found, columns), strict=True):
        share = f"{one.accuracy:.6g}"
        yield [one.name, str(one.images), str(one.right), share, *map(str, counts)]


def _columns(found: Sequence[Class], names: Sequence[str]) -> list[str]:
    used = {name for one in found for name in (one.name, *one.predicted)}
    return [name for name in dict.fromkeys([*names, *sorted(used)]) if name in used]


def _csv(rows: Iterator[list[str]] | Sequence[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _record(row: Row) -> dict[str, Any]:
    top = [{"class": name, "probability": share} for name, share in row.top]
    first = top[0] if top else {"class": None, "probability": None}
    values = (row.file, row.label, *first.values(), top, row.problem or None)
    return dict(zip(_KEYS, values, strict=True))


def _json(rows: Sequence[Row], found: Sequence[Class], names: Sequence[str]) -> bytes:
    columns = _columns(found, names)
    images, right = sum(c.images for c in found), sum(c.right for c in found)
    report = {
        "images": [_record(row) for row in rows],
        "labelled": images,
        "right": right,
        "accuracy": right / images if images else None,
        "classes": [
            {
                "class": one.name,
                "images": one.images,
                "right": one.right,
                "accuracy": one.accuracy,
            }
            for one in found
        ],
        "confusion_matrix": {
            "labels": [one.name for one in found],
            "predicted": columns,
            "counts": confusion.matrix(found, columns),
        },
    }
    return f"{_dumps(report, indent=1)}\n".encode()


def _dumps(value: Any, **options: Any) -> str:
    return json.dumps(value, allow_nan=False, **options)
