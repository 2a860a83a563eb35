"""The answers of a search's latency sources, kept in its folder. Imports no framework.

latency.jsonl has a line for each answer: a row as in `latencies.latency_table`, and the
conditions. A line is written at once and synced, so that a kill loses at most the
answer that was under way. A half line that a killed machine has left is passed over,
and what it would have said is asked again. So is what is not final.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from models.errors import ModelError
from models.variants import Variant
from search.latencies.latency_table import (
    Conditions,
    NetworkRow,
    digest_of,
    network_row,
)
from search.latencies.source_kinds import Recordable
from search.results import Estimate

FILE = "latency.jsonl"
# What a line that is none, or of another form, raises.
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Recorded:
    """A source whose answers are kept, and not asked for twice.

    Attributes:
      name: of the source.
      error: of the source.
    """

    def __init__(
        self, source: Recordable, folder: str | Path, *, asks_again: bool = False
    ):
        """Read what the folder knows of this source under its conditions.

        Args:
          source: that is asked for the rest.
          folder: of the search.
          asks_again: whether it is asked again for what it had no time of.

        Raises:
          UserError: the file cannot be read.
        """
        self._source, self._path = source, Path(folder) / FILE
        self.name, self.error = source.name, source.error
        self._conditions = source.noted_conditions()
        self._known = {
            row.digest: row
            for row in rows(folder, self._conditions)
            if row.source == source.name and not (asks_again and row.ms is None)
        }

    def __call__(self, variant: Variant) -> Estimate:
        """Return a network's latency."""
        return self.many([variant])[0]

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Return the latencies of several networks; ask for those not known yet.

        Raises:
          UserError: an answer cannot be written.
        """
        digests = [_digest_or_none(variant) for variant in variants]
        left = {
            digest: variant
            for digest, variant in zip(digests, variants, strict=True)
            if digest is not None and digest not in self._known
        }
        waiting = list(left.values())
        for start in range(0, len(waiting), self._source.at_once):
            some = waiting[start : start + self._source.at_once]
            for variant, found in zip(some, self._source.many(some), strict=True):
                self._keep(variant, found)
        return [
            self._known_estimate(digest) if digest else self._source(variant)
            for digest, variant in zip(digests, variants, strict=True)
        ]

    def close(self) -> None:
        """End what the source has started."""
        self._source.close()

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _known_estimate(self, digest: str) -> Estimate:
        row = self._known[digest]
        return Estimate(row.ms, row.source, row.error, row.reason, row.is_final)

    def _keep(self, variant: Variant, found: Estimate) -> None:
        row = NetworkRow.of(
            variant,
            ms=found.ms,
            source=self.name,
            reason=found.reason,
            error=found.error,
            is_final=found.is_final,
        )
        if row.is_final:
            append(self._path, self._conditions, row)
        self._known[row.digest] = row


def rows(folder: str | Path, conditions: Conditions) -> list[NetworkRow]:
    """Return what a search's folder knows under these conditions, in their order.

    Raises:
      UserError: the file cannot be read.
    """
    path = Path(folder) / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; mend that") from error
    return [row for line in lines for row in _row(line, conditions)]


def append(path: Path, conditions: Conditions, row: NetworkRow) -> None:
    """Add a line, and have the disk keep it.

    Raises:
      UserError: it cannot be written.
    """
    line = json.dumps({"conditions": conditions.as_json(), **row.as_json()}) + "\n"
    try:
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # half a line of a machine that went down
                    line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free some space or mend the "
            "permissions"
        ) from error


def _row(line: bytes, conditions: Conditions) -> Iterator[NetworkRow]:
    """Yield the row of a line if it is one, of these conditions."""
    with contextlib.suppress(*_BROKEN):
        found = json.loads(line)
        if Conditions(**found.pop("conditions")) == conditions:
            yield network_row(found)


def _digest_or_none(variant: Variant) -> str | None:
    """Return the digest of a network, None of one that cannot be built."""
    try:
        return digest_of(variant)
    except ModelError:
        return None
