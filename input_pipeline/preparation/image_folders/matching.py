"""Which image a table's cell names: by its file or id, with or without folders."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

EXACT, STEM = 2, 1  # a name with its suffix, or without
_LONGEST_NUMBER = 20  # digits; what is longer is a hash
_URL = re.compile(r"[a-z][a-z0-9+.-]+://[^?#]*/([^/?#]+)", re.IGNORECASE)


class Match(NamedTuple):
    """The images that a cell may name.

    Attributes:
      paths: of them; more than one where the cell leaves it open.
      is_sure: False where the cell has folders that are not those of the image, which
        may have been moved.
    """

    paths: Sequence[str]
    is_sure: bool = True


class Images:
    """Images by their names; upper and lower case are one where that has one reading.

    Args:
      paths: below the source.
      source: the path of the source.
    """

    def __init__(self, paths: Iterable[str], source: str):
        """Index the images by their names, with and without suffixes."""
        self._above = _parts(os.path.abspath(source))
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._by_number: dict[int, list[str]] = {}
        for path in paths:
            name = _key(path.rpartition("/")[2])
            self._by_name.setdefault(name, []).append(path)
            stem, suffix = os.path.splitext(name)
            if suffix:
                self._by_stem.setdefault(stem, []).append(path)
            if _is_number(stem):
                self._by_number.setdefault(int(stem), []).append(path)

    def example(self) -> str:
        """Return one of the images."""
        return min((paths[0] for paths in self._by_name.values()), default="none")

    def kind(self, cell: str) -> int:
        """Return EXACT or STEM if the cell names an image, else 0."""
        parts = _parts(cell)
        name = _key(parts[-1]) if parts else ""
        return EXACT * (name in self._by_name) or STEM * (
            name in self._by_stem or bool(self._numbered(name))
        )

    def find(self, cell: str) -> Match:
        """Return the images that a cell may name."""
        parts = _parts(cell)
        if not parts or ".." in parts:
            return Match(())
        name = _key(parts[-1])
        there = self._by_name.get(name) or self._by_stem.get(name) or []
        folders = parts[:-1]
        if not there and not folders:
            return Match(self._numbered(name), False)
        sure = [path for path in there if self._is_below(path, folders)]
        if not sure:
            return Match([p for p in there if _ends_with(folders, _folders(p))], False)
        return Match(_narrow(sure, parts))

    def _numbered(self, name: str) -> Sequence[str]:
        """Return the images of a number: of 0001.jpg, Excel keeps 1."""
        return self._by_number.get(int(name), ()) if _is_number(name) else ()

    def _is_below(self, path: str, folders: Sequence[str]) -> bool:
        return _ends_with([*self._above, *_folders(path)], folders)


def _narrow(paths: Sequence[str], parts: Sequence[str]) -> Sequence[str]:
    """Return the one that is spelt so, or that has just these folders, if there is."""
    if len(paths) > 1:
        name = parts[-1]
        same = [
            path
            for path in paths
            if name in (_base(path), os.path.splitext(_base(path))[0])
        ]
        paths = same if len(same) == 1 else paths
    if len(paths) > 1 and len(parts) > 1:
        whole = [path for path in paths if len(_folders(path)) == len(parts) - 1]
        paths = whole if len(whole) == 1 else paths
    return paths


def _ends_with(parts: Sequence[str], end: Sequence[str]) -> bool:
    if len(end) > len(parts):
        return False
    last = parts[len(parts) - len(end) :]
    return all(_key(one) == _key(other) for one, other in zip(last, end, strict=True))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < _LONGEST_NUMBER


def _parts(name: str) -> list[str]:
    """Return the folders and the file of a name; of a URL, the file alone."""
    if url := _URL.match(name):
        name = url[1]
    return [
        part for part in name.replace("\\", "/").split("/") if part not in ("", ".")
    ]


def _folders(path: str) -> list[str]:
    return path.split("/")[:-1]


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _key(name: str) -> str:
    """Return a name as it is compared: disks of macOS take its letters apart."""
    return unicodedata.normalize("NFC", name).casefold()
