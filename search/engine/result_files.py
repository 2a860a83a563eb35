"""The plain files of a search: what was evaluated, readable without anything else.

    results/<worker>.jsonl   one line an evaluation, written by that worker alone
    results.jsonl            all of them, by number; the search's master renews it

A worker holds its file by the kernel's lock as long as it lives, so that others on its
machine know of its death at once.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from common import console, files
from common.errors import UserError
from search.results import Result

MERGED = "results.jsonl"
FOLDER = "results"
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")


def worker_name() -> str:
    """Return a name that no worker has had: machine, its boot, and a random part."""
    return f"{_machine()}-{uuid.uuid4().hex[:8]}"


def _machine() -> str:
    """Return what only processes have in common that see each other's locks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:6]
    except OSError:  # not Linux: then a death is noticed by the lease alone
        boot = uuid.uuid4().hex[:6]
    return f"{_UNSAFE.sub('-', socket.gethostname())[:40] or 'host'}-{boot}"


def is_dead(folder: Path, worker: str) -> bool:
    """Whether the kernel says that a worker lives no more; False where it cannot say.

    Args:
      folder: of the search.
      worker: by its name.
    """
    if worker.rpartition("-")[0] != _machine():
        return False
    try:
        descriptor = os.open(folder / FOLDER / f"{worker}.jsonl", os.O_RDONLY)
    except FileNotFoundError:
        return False  # it keeps its files in another folder
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


class ResultLog:
    """The file of one worker: a line is on the disk when `append` returns."""

    def __init__(self, folder: Path, worker: str):
        """Make the file, and hold it until `close` or the process's end.

        Raises:
          UserError: it cannot be written.
        """
        self._path = folder / FOLDER / f"{worker}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = os.open(self._path, flags, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror}; free some space, mend "
                "the permissions, or name another folder"
            ) from error
        with contextlib.suppress(OSError):  # no locks there: the lease tells alone
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, result: Result) -> None:
        """Write a line in one write; raises UserError where the disk refuses."""
        line = as_line(result)
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # else readers stop at the torn line
                os.ftruncate(self._file, size)
            raise UserError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def as_line(result: Result) -> bytes:
    """Return a result's line; ValueError where a number in it is not finite."""
    return json.dumps(result.as_json(), allow_nan=False).encode() + b"\n"


class ResultReader:
    """Reads a folder's results again and again, each line once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes of each file

    def new(self) -> Iterator[Result]:
        """Yield the results of lines that have come since the last call.

        What a torn or damaged line held is evaluated again; a damaged one is warned of.
        """
        for path in _files(self._folder):
            begin = self._read.get(path, 0)
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= begin:
                    continue
                file.seek(begin)
                whole = file.read().rpartition(b"\n")[0]
                self._read[path] = begin + len(whole) + bool(whole)
                yield from _parsed(path, whole.splitlines())


def read(folder: Path) -> list[Result]:
    """Return all results of a search, by number; of two with one number the first."""
    merged = folder / MERGED
    lines = merged.read_bytes().splitlines() if merged.is_file() else []
    found: dict[int, Result] = {}
    for result in (*_parsed(merged, lines), *ResultReader(folder).new()):
        found.setdefault(result.number, result)
    return [found[number] for number in sorted(found)]


def read_worker(folder: Path, worker: str) -> list[Result]:
    """Return what one worker has written; nothing where its file is elsewhere."""
    path = folder / FOLDER / f"{worker}.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""
    return list(_parsed(path, whole.splitlines()))


def write_merged(folder: Path, results: Iterable[Result]) -> None:
    """Renew results.jsonl, whole or not at all; raises OSError."""
    files.write_bytes(folder / MERGED, b"".join(map(as_line, results)))


def _files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.jsonl"))


def _parsed(path: Path, lines: Iterable[bytes]) -> Iterator[Result]:
    damaged = 0
    for line in lines:
        try:
            yield Result.of_json(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged += 1
    if damaged:
        console.warn(f"{path}: {console.count(damaged, 'line')} cannot be read")
