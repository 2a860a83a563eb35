"""Programs that were lowered before, on disk."""

import contextlib
import gzip
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

from common.files import remove_older
from tpu_compiler import CompilerError
from tpu_compiler.cache import LEFTOVER_SECONDS, default_folder

_UNREAD_SECONDS = 90 * 24 * 3600.0


def load(key: str) -> bytes | None:
    """Return the program that is kept under a key, None if none is or can be read.

    Raises:
        CompilerError: the folder cannot be used.
    """
    with _used() as folder:
        path = folder / f"{key}.mlir.gz"
        try:
            program = gzip.decompress(path.read_bytes())
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
            return None
    with contextlib.suppress(OSError):  # where one may only read, others keep it
        os.utime(path)
    return program or None  # an empty file, left by a machine that went down


def store(key: str, program: bytes) -> None:
    """Keep a program, and remove what nobody has read for long.

    Raises:
        CompilerError: the folder cannot be used.
    """
    with _used() as folder:
        folder.mkdir(parents=True, exist_ok=True)
        remove_older(folder, "*.part-*", LEFTOVER_SECONDS)
        remove_older(folder, "*.mlir.gz", _UNREAD_SECONDS)
        aside = folder / f"{key}.part-{uuid.uuid4().hex}"
        try:
            aside.write_bytes(gzip.compress(program))
            os.replace(aside, folder / f"{key}.mlir.gz")
        finally:
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _used() -> Iterator[Path]:
    """Give the folder; what it refuses is a person's to mend."""
    folder = default_folder().with_name("lowered")
    try:
        yield folder
    except OSError as error:
        raise CompilerError(
            f"cannot use {folder} for lowered programs: {error.strerror}; free some "
            "space, mend the permissions or name another folder for caches by "
            "XDG_CACHE_HOME"
        ) from error
