"""Files on a disk, written whole or not at all.

What is being written stands beside its place under a random name, and gets its name by
one rename. What a process that was killed leaves there is found by that name.
"""

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 24 * 3600.0  # older than any write that is still under way
STAGING = re.compile(r"(?P<name>.+)\.part-[0-9a-f]{32}", re.DOTALL)


def staging_name(path: str | os.PathLike[str]) -> str:
    """Return another path beside this one, for what is to get its name later."""
    return f"{os.fspath(path)}.part-{uuid.uuid4().hex}"  # several may write at once


@contextlib.contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a path beside this one to write to; what stands there at the end goes."""
    staging = Path(staging_name(path))
    try:
        yield staging
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a path to write to; what stands there at the end replaces `path`.

    Nothing is replaced when the block raises, nor when it has written nothing.

    Raises:
      OSError: the file cannot be written or renamed, by its name; or what else the
        block raises.
    """
    with scratch(path) as staging:
        try:
            yield staging
            if staging.exists():
                os.replace(staging, path)
        except OSError as error:
            if error.filename == str(staging):  # a name that nobody has heard of
                error.filename = os.fspath(path)
            raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all; OSError when it cannot be."""
    with writing(path) as staging:
        staging.write_bytes(data)


def remove_stale(folder: Path, seconds: float = STALE_SECONDS) -> None:
    """Remove what writers that were killed have left in a folder."""
    remove_older(folder, "*.part-*", seconds)


def remove_older(folder: Path, pattern: str, seconds: float) -> None:
    """Remove the files of a folder that nobody has touched for so long.

    Args:
      folder: those below it are not searched; it need not exist.
      pattern: of the names, as `Path.glob` has it.
      seconds: by the clock of the disk against that of this machine.
    """
    before = time.time() - seconds
    for path in folder.glob(pattern):
        # Another process was faster, or it is another user's.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if path.stat().st_mtime < before:
                path.unlink()
