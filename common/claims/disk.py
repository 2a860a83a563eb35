"""A claim on a disk: a file, open and locked.

On one machine the kernel knows whether the holder still lives, by a lock on the file: a
process that is killed holds nothing any more, one that is merely stopped does. Where
the lock of another machine cannot be seen, as on some network disks, the file's age
tells, by the clock of the disk.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from common import files
from common.claims import holder
from common.claims.holder import BEGINS, NAME, Holder, Other, Unwritable
from common.errors import UserError

_POLL_SECONDS = 0.1
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
# What flock says on a file system that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class File:
    """A claim by a file on a disk, open and locked as long as it is held."""

    def __init__(self, folder: Path, purpose: str):
        self._folder = folder
        self._path = folder / NAME
        self._purpose = purpose
        self._file = -1

    def take(self) -> None:
        """Take the folder, as soon as it is free; see `holder.take`."""
        try:
            self._holder = Holder.this_process(self._purpose, _boot(self._folder))
            holder.take(str(self._folder), self._try, _POLL_SECONDS)
        except OSError as error:
            where = error.filename or self._folder
            what = f"cannot write {where}: {error.strerror or error}"
            if error.errno in _MAY_NOT_WRITE:
                raise Unwritable(
                    f"{what}; mend the permissions, or name another folder"
                ) from error
            raise UserError(
                f"{what}; free some space, or name another folder"
            ) from error

    def _try(self, dead: Other | None = None) -> Other | None:
        """Take the folder if it is free, else return whose it is.

        Args:
          dead: who has given no other sign for long enough.
        """
        descriptor, may_write = _open(self._path)
        try:
            _require_ours(descriptor, self._path)
            is_locked, its = _lock(descriptor), None
            with contextlib.suppress(PermissionError):  # as in `_now`
                its = _read(descriptor)
            is_near = its is None or its.boot == self._holder.boot
            if is_locked is False and is_near:
                return Other(its)
            if not _is_at(descriptor, self._path):
                return Other(None)  # released, and gone, in this moment
            if its and not (is_locked and is_near):
                sign = os.fstat(descriptor).st_mtime
                age = max(0.0, _disk_time(self._path) - sign)
                other = Other(its, False, sign, age)
                is_dead = age >= holder.STALE_SECONDS or (dead and sign == dead.sign)
                if is_locked is False or not is_dead:
                    return other
            if not may_write:  # another user's, who has left it: to be made anew
                self._path.unlink()
                return Other(None)
            _write(descriptor, self._holder)
            self._file, descriptor = descriptor, -1
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def check(self) -> None:
        """Return if the folder is still this process's; see `Claim`."""
        began, why = time.monotonic(), ""
        while holder.since(began) < holder.PATIENCE_SECONDS:
            try:
                its = self._now()
            except OSError as error:
                why = error.strerror or str(error)
            else:
                if its == self._holder:
                    return
                if its is not None:
                    raise holder.held(str(self._folder), its)
                why = "it says nothing"
            time.sleep(_POLL_SECONDS)
        raise holder.cannot_tell(self._path, why)

    def renew(self) -> None:
        """Give a sign of life; OSError when the disk fails."""
        if self._now() == self._holder:
            os.utime(self._path)

    def release(self) -> None:
        """Leave the folder to others; OSError when the disk fails."""
        if self._file < 0:
            return
        try:
            if self._now() == self._holder:
                self._path.unlink()
        finally:  # the lock goes with it anyway
            os.close(self._file)

    def _now(self) -> Holder | None:
        """Return who holds the folder now; None where the file does not say."""
        # By the path: somebody may have put another file there.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            return _read(descriptor)
        except PermissionError:  # of a locked file SMB shows others nothing
            return _read(self._file) if _is_at(self._file, self._path) else None
        finally:
            os.close(descriptor)


def _boot(folder: Path) -> str:
    """Return the kernel, and the disk as it knows it: whose locks it can see."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        boot = socket.gethostname()
    return f"{boot} {os.stat(folder).st_dev}"


def _open(path: Path) -> tuple[int, bool]:
    """Open a claim, or make it; return a descriptor and whether one may write to it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        if not path.exists():
            raise
    return os.open(path, flags | os.O_RDONLY), False


def _lock(descriptor: int) -> bool | None:
    """Lock a file; False: another process has; None: there are no locks there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that stands at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Holder | None:
    """Return who holds the folder; see `Holder.parse`. OSError: the disk fails."""
    return Holder.parse(os.pread(descriptor, 1 << 16, 0))


def _require_ours(descriptor: int, path: Path) -> None:
    """Refuse to write into a file that is no claim, or has other names, too."""
    head = b""
    with contextlib.suppress(PermissionError):  # as in `_now`
        head = os.pread(descriptor, len(BEGINS), 0).strip(b"\0")  # of a power cut
    has_other_names = os.fstat(descriptor).st_nlink > 1
    holder.require_ours(path, b"no claim" if has_other_names else head)


def _write(descriptor: int, its: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, its.to_bytes(), 0)
    os.fsync(descriptor)


def _disk_time(path: Path) -> float:
    """Return what time it is by the clock of the disk where a path is."""
    with files.scratch(path) as probe:
        probe.touch()
        return probe.stat().st_mtime
