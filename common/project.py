"""Where this project lies, and which gin files it brings."""

import io
import os
from pathlib import Path

from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


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
    return f"{why}; a relative path is looked up in {os.getcwd()} and in {ROOT}"


def open_gin_file(path: str) -> io.StringIO:
    """Open a gin file from wherever the command was started; includes, too.

    Args:
      path: as given, or relative to the project's folder.

    Returns:
      Its text, without the byte order mark that editors on Windows begin it with; it
      has the path for a name, as gin's parser asks for.

    Raises:
      UserError: there is none.
      OSError, UnicodeDecodeError: it cannot be read.
    """
    found = _find(path)
    if found is None:
        raise UserError(why_no_gin_file(path) or f"{path} is in a bucket: copy it here")
    file = io.StringIO(Path(found).read_text(encoding="utf-8-sig"))
    file.name = path
    return file


# What gin is to open files with. Its own reader looks into packages on Python's path,
# and fails where a folder of the path's name is no package.
GIN_READERS = [(open_gin_file, lambda path: True)]


def _find(path: str) -> str | None:
    places = path, os.path.join(ROOT, path)
    return next((place for place in places if os.path.isfile(place)), None)
