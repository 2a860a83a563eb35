"""One process at a time writes in a folder: who holds it says a file there.

`.claim.json` names the process that writes in its folder. On one machine the kernel
knows whether that one still lives, by a lock on the file: a process that is killed
holds nothing any more, one that is merely stopped does. Where the lock of another
machine cannot be seen, as on some network disks, the file's age tells: whoever holds
the folder touches it every ten seconds, and after 90 without counts as dead. Ages are
those of the disk's own clock; where that makes no sense, one waits for so long.

A process that was taken for dead, and was not, finds another name in the file when it
looks, which it does before everything that it gives its name.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from common import files
from common.console import escaped, say
from common.errors import Restart, UserError

NAME = ".claim.json"
RENEW_SECONDS = 10.0
STALE_SECONDS = 90.0
_PATIENCE_SECONDS = 3.0  # for one that is just ending, or has it for a moment
_POLL_SECONDS = 0.1
_BEGINS = b'{"token": "'
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
# What flock says on a file system that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Held(UserError):  # noqa: N818 (a state, whoever is to blame)
    """Another process writes there, or does so now instead of this one."""


class Unwritable(UserError):  # noqa: N818 (a state, whoever is to blame)
    """This process may not write there, and so cannot hold the folder."""


class Claim(Protocol):
    """What a process has of a folder that it holds."""

    def check(self) -> None:
        """Return if the folder is still this process's.

        Raises:
          Held: another process has taken it over.
          Restart: that cannot be told, as the claim is gone or the disk fails.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a folder; the fields are the keys of the file.

    Attributes:
      token: of this claim alone.
      purpose: what for, as in "a training".
      host: name of the machine.
      pid: of the process.
      boot: of the machine's kernel, and the disk as that one knows it: its locks tell
        of its own processes.
      since: seconds since 1970 by the clock of the machine.
    """

    token: str
    purpose: str
    host: str
    pid: int
    boot: str
    since: float

    def __str__(self) -> str:
        since = time.strftime("%F %T", time.localtime(self.since))
        return f"{self.purpose}: process {self.pid} on {self.host}, since {since}"


@contextlib.contextmanager
def hold(folder: str, purpose: str) -> Iterator[Claim]:
    """Hold a folder against other processes; it is free again at the end.

    A bucket's folder is not held: there are no locks, and this asks nobody.

    Args:
      folder: it exists; on a disk or in a bucket.
      purpose: for those who are refused, as in "a training".

    Raises:
      Held: another process holds it. One of another machine that gives no sign of life
        is waited for until it counts as dead.
      UserError: the folder cannot be written; an Unwritable where it may not be.
    """
    if "://" in folder:
        yield _Unheld()
        return
    try:
        claim = _File(Path(folder) / NAME, _holder(folder, purpose))
        claim.take()
    except OSError as error:
        what = f"cannot write {error.filename or folder}: {error.strerror or error}"
        if error.errno in _MAY_NOT_WRITE:
            raise Unwritable(
                f"{what}; mend the permissions, or name another folder"
            ) from error
        raise UserError(f"{what}; free some space, or name another folder") from error
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(claim, done), daemon=True)
    try:
        renewer.start()
        yield claim
    finally:
        done.set()
        renewer.join(RENEW_SECONDS)
        claim.release()


class _Unheld:
    """The claim of a folder that cannot be held."""

    def check(self) -> None:
        """Raise nothing."""


class _File:
    """A claim by a file on a disk, open and locked as long as it is held."""

    def __init__(self, path: Path, holder: Holder):
        self._path = path
        self._holder = holder
        self._file = -1

    def take(self) -> None:
        """Take the folder, as soon as it is free; Held when it is not."""
        began, first = time.monotonic(), None
        while other := self._try(first if _since(began) > STALE_SECONDS else None):
            if other.is_alive:
                first, patience = None, _PATIENCE_SECONDS
            else:
                if first is None:
                    first, began = other, time.monotonic()
                    self._say_waiting(other)
                elif other.sign != first.sign:  # it has given another one
                    raise self._held(other.holder)
                patience = STALE_SECONDS + _PATIENCE_SECONDS
            if _since(began) > patience:
                raise self._held(other.holder)
            time.sleep(_POLL_SECONDS)

    def _try(self, dead: "_Other | None" = None) -> "_Other | None":
        """Take the folder if it is free, else return whose it is.

        Args:
          dead: who has given no other sign for long enough.
        """
        descriptor, may_write = _open(self._path)
        try:
            _require_ours(descriptor, self._path)
            is_locked, holder = _lock(descriptor), None
            with contextlib.suppress(PermissionError):  # as in `_now`
                holder = _read(descriptor)
            is_near = holder is None or holder.boot == self._holder.boot
            if is_locked is False and is_near:
                return _Other(holder)
            if not _is_at(descriptor, self._path):
                return _Other(None)  # released, and gone, in this moment
            if holder and not (is_locked and is_near):
                sign = os.fstat(descriptor).st_mtime
                age = max(0.0, _disk_time(self._path) - sign)
                other = _Other(holder, False, sign, age)
                is_dead = age >= STALE_SECONDS or (dead and sign == dead.sign)
                if is_locked is False or not is_dead:
                    return other
            if not may_write:  # another user's, who has left it: to be made anew
                self._path.unlink()
                return _Other(None)
            _write(descriptor, self._holder)
            self._file, descriptor = descriptor, -1
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def check(self) -> None:
        """Return if the folder is still this process's; see `Claim`."""
        began, why = time.monotonic(), ""
        while _since(began) < _PATIENCE_SECONDS:
            try:
                holder = self._now()
            except OSError as error:
                why = error.strerror or str(error)
            else:
                if holder == self._holder:
                    return
                if holder is not None:
                    raise self._held(holder)
                why = "it says nothing"
            time.sleep(_POLL_SECONDS)
        raise Restart(f"{self._path} does not tell whose the folder is now: {why}")

    def renew(self) -> None:
        """Give a sign of life; OSError when the disk fails."""
        if self._now() == self._holder:
            os.utime(self._path)

    def release(self) -> None:
        """Leave the folder to others."""
        # What ends the process comes first; the lock goes with it anyway.
        with contextlib.suppress(OSError):
            if self._now() == self._holder:
                self._path.unlink()
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

    def _say_waiting(self, other: "_Other") -> None:
        line = (
            f"{self._path.parent} is held by {other.holder}; its last sign of life is "
            f"{other.age:,.0f} s old. Waiting for another one; without, it counts as "
            f"dead after {STALE_SECONDS:.0f} s (in a copy of its folder delete {NAME})"
        )
        say(escaped(line))

    def _held(self, holder: Holder | None) -> Held:
        return Held(
            f"{self._path.parent} is held by {holder or 'another process'}. Wait for "
            "its end or stop it, which leaves the folder to the next, or name another "
            "folder"
        )


class _Other(NamedTuple):
    """Who holds a folder.

    Attributes:
      holder: None where the file does not say.
      is_alive: by the kernel's word; else it may be.
      sign: when it gave the last sign of life, by the disk's clock.
      age: of that sign, in seconds.
    """

    holder: Holder | None
    is_alive: bool = True
    sign: float = 0.0
    age: float = 0.0


def _holder(folder: str, purpose: str) -> Holder:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        boot = socket.gethostname()
    return Holder(
        token=uuid.uuid4().hex,
        purpose=purpose,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=f"{boot} {os.stat(folder).st_dev}",
        since=time.time(),
    )


def _renew(claim: _File, done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        # A disk that fails now may be well again before anybody takes over; if not,
        # `check` tells.
        with contextlib.suppress(OSError):
            claim.renew()


def _open(path: Path) -> tuple[int, bool]:
    """Open a claim, or make it; return a descriptor and whether one may write to it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        if not path.exists():
            raise
    return os.open(path, flags | os.O_RDONLY), False


def _since(began: float) -> float:
    return time.monotonic() - began


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
    """Return who holds the folder; None where a killed process has left half a word.

    Raises:
      OSError: the disk fails.
    """
    try:
        found = json.loads(os.pread(descriptor, 1 << 16, 0))
        known = {field.name: found[field.name] for field in dataclasses.fields(Holder)}
        time.localtime(known["since"] + 0.0)
        return Holder(**known)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _require_ours(descriptor: int, path: Path) -> None:
    """Refuse to write into a file that is no claim, or has other names, too."""
    head = b""
    with contextlib.suppress(PermissionError):  # as in `_now`
        head = os.pread(descriptor, len(_BEGINS), 0).strip(b"\0")  # of a power cut
    if not _BEGINS.startswith(head) or os.fstat(descriptor).st_nlink > 1:
        raise UserError(
            f"{path} is no file of this project: move it elsewhere, or name another "
            "folder"
        )


def _write(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(dataclasses.asdict(holder)).encode(), 0)
    os.fsync(descriptor)


def _disk_time(path: Path) -> float:
    """Return what time it is by the clock of the disk where a path is."""
    with files.scratch(path) as probe:
        probe.touch()
        return probe.stat().st_mtime
