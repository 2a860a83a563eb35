"""How long compilations took on this machine, on disk beside their answers.

It is for people who wait and decides on nothing: what cannot be read or written, or is
no such file, is no history.
"""

import json
import math
from pathlib import Path

from common import files

_MOST = 500  # kinds that are remembered; the oldest go
_FILE_BYTES = 2**20  # of such a file at most


class History:
    """Seconds by kind of program. Of processes that write at once, the last counts."""

    def __init__(self, folder: Path):
        self._path = folder / "seconds.json"

    def seconds(self, kind: str) -> float | None:
        """Return how long the last compilation of a kind took; None is unknown."""
        return self._load().get(kind)

    def note(self, kind: str, seconds: float) -> None:
        """Remember how long a compilation took."""
        known = self._load()
        known.pop(kind, None)  # the newest is the last
        newest = [*known.items(), (kind, round(seconds, 1))][-_MOST:]
        try:
            files.write_bytes(self._path, json.dumps(dict(newest)).encode())
        except OSError:
            return

    def _load(self) -> dict[str, float]:
        try:
            if files.kind(self._path, follow_links=True) != files.FILE:
                return {}  # to read a pipe would hang
            with self._path.open("rb") as file:
                found = json.loads(file.read(_FILE_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {kind: s for kind, s in found.items() if _is_duration(s)}


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0
