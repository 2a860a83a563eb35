"""Where this project lies, and which gin files it brings."""

import io
import os
import sys
from pathlib import Path

from common import home
from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def leave_rooms() -> None:
    """Look for no module in a folder of the project's packages, but in the project's.

    `python train/main.py` puts train/ first: its config.py would be anybody's `config`.
    """
    for path in sys.path[:1]:
        folder = Path(path).resolve()
        if ROOT in folder.parents and (folder / "__init__.py").exists():
            sys.path.remove(path)


def gin_files() -> str:
    """Return in words which recipes there are."""
    runs = sorted(f"gin_configs/runs/{f.name}" for f in ROOT.glob("gin_configs/runs/*"))
    return f"those of the project: {', '.join(runs)}"


def why_no_gin_file(path: str) -> str | None:
    """Return why a path names no gin file; None where it does, or is in a bucket.

    Args:
      path: as given, or relative to the project's folder.
    """
    if "://" in path or _find(path):
        return None
    why = f"there is no gin file {path}; {gin_files()}"
    if os.path.isabs(path):
        return why
    return f"{why}; a relative path is looked up in {' and in '.join(_folders())}"


class _GinFile(io.StringIO):
    """The text of a gin file; while gin reads it, what it includes may lie beside it.

    Attributes:
      name: the path, as gin's parser asks for it.
    """

    def __init__(self, path: str, found: str):
        # Editors on Windows begin a file with a byte order mark.
        super().__init__(Path(found).read_text(encoding="utf-8-sig"))
        self.name = path
        self._folder = os.path.dirname(os.path.abspath(found))

    def __enter__(self):
        _INCLUDING.append(self._folder)
        return super().__enter__()

    def __exit__(self, *error):
        _INCLUDING.pop()
        return super().__exit__(*error)


_INCLUDING: list[str] = []  # folders of the files that gin is reading, innermost last


def open_gin_file(path: str) -> io.StringIO:
    """Open a gin file from wherever the command was started; includes, too.

    Args:
      path: as given, or relative to the project's folder or to the including file's.

    Returns:
      Its text.

    Raises:
      UserError: there is none.
      OSError, UnicodeDecodeError: it cannot be read.
    """
    found = _find(path)
    if found is None:
        raise UserError(why_no_gin_file(path) or f"{path} is in a bucket: copy it here")
    return _GinFile(path, found)


# What gin is to open files with. Its own reader looks into packages on Python's path,
# and fails where a folder of the path's name is no package.
GIN_READERS = [(open_gin_file, lambda path: True)]


def _find(path: str) -> str | None:
    path = home.expand(path)
    places = (os.path.join(folder, path) for folder in ("", *_folders()[1:]))
    return next((place for place in places if os.path.isfile(place)), None)


def _folders() -> list[str]:
    """Return where a relative path is looked up, in this order."""
    return list(dict.fromkeys([os.getcwd(), str(ROOT), *_INCLUDING[-1:]]))
