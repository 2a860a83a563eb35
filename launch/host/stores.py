"""Where the board lies: small files of JSON, in a bucket or in a folder."""

import json
from pathlib import Path
from typing import Any, Protocol

from common import files, gcs

_PATIENCE_SECONDS = 5.0  # for a bucket that is busy; the next look is near


class Store(Protocol):
    """One place, as the writer of one file sees it."""

    def read(self, name: str) -> dict[str, Any]:
        """Return what a file says; nothing where there is none, or half a one."""
        ...

    def look(self) -> dict[str, Any]:
        """Return what the own file says; it may be replaced from now on."""
        ...

    def write(self, said: dict[str, Any], *, takes: bool) -> bool:
        """Write the own file, unless another has done so since one looked.

        Args:
          said: its "writer" tells who writes.
          takes: write it, whoever has done so.

        Returns:
          Whether it is written.
        """
        ...


def find(folder: str, own: str) -> Store:
    """Return the store of a folder, gs:// or local, which is made."""
    if folder.startswith(gcs.SCHEME):
        return _Bucket(folder, own)
    path = Path(folder.removeprefix("file://"))
    path.mkdir(parents=True, exist_ok=True)
    return _Folder(path, own)


class _Bucket:
    """There a file is written in place of the generation that one knows."""

    def __init__(self, folder: str, own: str):
        self._folder, self._own = folder, f"{folder}/{own}.json"
        self._generation = 0

    def read(self, name: str) -> dict[str, Any]:
        path = f"{self._folder}/{name}.json"
        return _parse(gcs.read(path, patience=_PATIENCE_SECONDS))

    def look(self) -> dict[str, Any]:
        found = gcs.look(self._own, patience=_PATIENCE_SECONDS)
        self._generation = found.generation if found else 0
        return _parse(
            gcs.read(self._own, self._generation, patience=_PATIENCE_SECONDS)
            if found
            else None
        )

    def write(self, said: dict[str, Any], *, takes: bool) -> bool:
        data = json.dumps(said).encode()
        while True:
            written = gcs.write(
                self._own, data, self._generation, patience=_PATIENCE_SECONDS
            )
            if written is not None:
                self._generation = written
                return True
            # It may be one's own word, whose answer got lost; or it is gone.
            found = self.look()
            if found == said:
                return True
            if found and found.get("writer") != said["writer"] and not takes:
                return False


class _Folder:
    """The same on a disk; between its look and its write nobody else's is noticed."""

    def __init__(self, folder: Path, own: str):
        self._folder, self._own = folder, own
        self._known = ""  # the last writer

    def read(self, name: str) -> dict[str, Any]:
        path = self._folder / f"{name}.json"
        return _parse(path.read_bytes() if path.exists() else None)

    def look(self) -> dict[str, Any]:
        found = self.read(self._own)
        self._known = found.get("writer", "")
        return found

    def write(self, said: dict[str, Any], *, takes: bool) -> bool:
        writer = self.read(self._own).get("writer", self._known)
        if writer != self._known and not takes:
            return False
        files.write_bytes(self._folder / f"{self._own}.json", json.dumps(said).encode())
        self._known = said["writer"]
        return True


def _parse(text: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(text or b"")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
