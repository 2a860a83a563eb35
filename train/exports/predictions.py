"""The trainer's predictions in an export, and what they are compared with later."""

import collections
import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from common.errors import UserError

FILENAME = "predictions.csv"
_COLUMNS = ("filename", "label", "class_id", "sha256")


class Prediction(NamedTuple):
    """What is predicted of an image.

    Attributes:
      filename: that its record gives.
      label: its class id by the record, None where nobody knows.
      class_id: the most probable one.
      sha256: of the encoded image, which tells it from another of the same name; ""
        where an older export does not say.
    """

    filename: str
    label: int | None
    class_id: int
    sha256: str


def digest(encoded: bytes) -> str:
    """Return what identifies an encoded image."""
    return hashlib.sha256(encoded).hexdigest()


def to_csv(predictions: Iterable[Prediction]) -> str:
    """Return predictions as CSV, with a head."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows([_COLUMNS, *predictions])
    return table.getvalue()


def from_csv(text: str, path: str) -> list[Prediction]:
    """Read what `to_csv` has written, by this version or one before.

    Raises:
      UserError: it is something else; names the path.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not {*_COLUMNS[:3]} <= {*(rows.fieldnames or ())}:
            raise ValueError("other columns")
        return [
            Prediction(
                row["filename"],
                int(row["label"]) if row["label"] != "" else None,
                int(row["class_id"]),
                row.get("sha256") or "",
            )
            for row in rows
        ]
    except (csv.Error, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what train.export writes there; export again"
        ) from error


def agreement(
    found: Sequence[Prediction], expected: Sequence[Prediction]
) -> tuple[int, int]:
    """Return how many images both know, and of how many both predict the same class.

    An image is known by its digest. Where the expected ones have none, it is known by
    name and label, if no two have the same.
    """
    if any(one.sha256 for one in expected):
        classes = {one.sha256: one.class_id for one in expected}
        pairs = [(one.class_id, classes.get(one.sha256)) for one in found]
    else:
        ours, theirs = _unique(found), _unique(expected)
        pairs = [(class_id, theirs.get(key)) for key, class_id in ours.items()]
    known = [pair for pair in pairs if pair[1] is not None]
    return len(known), sum(one == other for one, other in known)


def _unique(predictions: Sequence[Prediction]) -> dict[tuple[str, int | None], int]:
    """Return class ids by name and label, of those that are there once."""
    keys = [(one.filename, one.label) for one in predictions]
    times = collections.Counter(keys)
    classes = zip(keys, (one.class_id for one in predictions), strict=True)
    return {key: class_id for key, class_id in classes if times[key] == 1}
