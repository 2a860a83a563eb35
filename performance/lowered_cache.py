"""Programs that were lowered before, on disk."""

import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from common import files
from common.console import warn
from tpu_compiler import UnusableCompilerError, cache_folder

_OURS = re.compile(r"[0-9a-f]{64}\.mlir\.gz")
_UNREAD_SECONDS = 90 * 24 * 3600.0


def load(key: str) -> bytes | None:
    """Return the program that is kept under a key, None if none is or can be read.

    Raises:
      UnusableCompilerError: the folder cannot be used.
    """
    with _folder() as folder:
        path = folder / f"{key}.mlir.gz"
        if (what := files.kind(path, follow_links=True)) not in (None, files.FILE):
            warn(f"{path} is a {what}: move it away; lowered anew")
            return None  # to read a pipe would hang
        try:
            program = gzip.decompress(path.read_bytes())
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
            return None
    with contextlib.suppress(OSError):  # where one may only read, others keep it
        os.utime(path)
    return program or None  # an empty file, left by a machine that went down


def store(key: str, program: bytes) -> None:
    """Keep a program, and remove what nobody has read for long.

    Args:
      key: a SHA-256 in hexadecimal; what has other names here is not ours.
      program: the bytes.

    Raises:
      UnusableCompilerError: the folder cannot be used.
    """
    with _folder() as folder:
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_stale(folder, _OURS.fullmatch)
        files.remove_older(folder, _OURS.fullmatch, _UNREAD_SECONDS)
        path = folder / f"{key}.mlir.gz"
        if not files.why_not_replaced(path):  # else `load` has told
            files.write_bytes(path, gzip.compress(program))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Lend the folder; what it refuses is a person's to mend."""
    folder = cache_folder().with_name("lowered")
    try:
        yield folder
    except OSError as error:
        raise UnusableCompilerError(
            f"cannot use {folder} for lowered programs: {error.strerror}; free some "
            "space, mend the permissions or name another folder for caches by "
            "XDG_CACHE_HOME"
        ) from error
