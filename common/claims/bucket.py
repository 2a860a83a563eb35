"""A claim in a bucket: an object that no two processes can write at once.

Whoever takes a folder writes `.claim.json` there only if the generation that it has
seen, or none, is still the last one; so of several one is first. A sign of life is a
new generation. The storage's own clock says how old it is; the clocks of machines are
not asked. Of a process of this machine the kernel knows whether it is gone.
"""

import os
import uuid
from pathlib import Path

from common import gcs
from common.claims import holder
from common.claims.holder import NAME, Holder, Other, Unwritable

_POLL_SECONDS = 1.0
_LEAVING_SECONDS = 5.0  # that the end of a process waits for a busy storage


class Object:
    """A claim by an object of a bucket."""

    def __init__(self, folder: str, purpose: str):
        self._folder = folder
        self._path = f"{folder}/{NAME}"
        self._holder = Holder.this_process(purpose, _boot())
        self._generation = 0  # of our last sign of life
        self._seen: tuple[int, Holder | None] = (0, None)  # of somebody else's

    def take(self) -> None:
        """Take the folder, as soon as it is free; see `holder.take`."""
        try:
            holder.take(self._folder, self._try, _POLL_SECONDS)
        except gcs.Refused as error:
            raise Unwritable(str(error)) from error

    def _try(self, dead: Other | None = None) -> Other | None:
        """Take the folder if it is free, else return whose it is."""
        found = gcs.look(self._path)
        if found is None:
            taken = self._write(0, holder.STALE_SECONDS)
            return None if taken else Other(None)
        generation, age = found.generation, max(0.0, found.age)
        if generation != self._seen[0]:
            text = gcs.read(self._path, generation)
            if text is None:  # it was given, or taken, in this moment
                return Other(None)
            holder.require_ours(self._path, text)
            self._seen = generation, Holder.parse(text)
        its = self._seen[1]
        is_dead = its is None or age >= holder.STALE_SECONDS or _is_gone(its)
        if is_dead or (dead and generation == dead.sign):
            taken = self._write(generation, holder.STALE_SECONDS)
            return None if taken else Other(its)
        is_alive = its is not None and _is_of_this_machine(its)
        return Other(its, is_alive, generation, age)

    def check(self) -> None:
        """Return if the folder is still this process's; see `Claim`."""
        try:
            text = gcs.read(self._path, patience=holder.STALE_SECONDS)
        except gcs.Refused as error:
            raise holder.cannot_tell(self._path, str(error)) from error
        if text is None:
            raise holder.cannot_tell(self._path, "it is gone")
        if (its := Holder.parse(text)) != self._holder:
            raise holder.held(self._folder, its)

    def renew(self) -> None:
        """Give a sign of life, unless the folder is somebody else's by now."""
        if self._generation:
            self._write(self._generation, holder.RENEW_SECONDS)

    def release(self) -> None:
        """Leave the folder to others; Restart or Refused when that cannot be."""
        patience = _LEAVING_SECONDS
        if not self._generation or gcs.remove(
            self._path, self._generation, patience=patience
        ):
            return
        if self._is_ours(patience):  # whose last sign was not answered
            gcs.remove(self._path, self._generation, patience=patience)

    def _write(self, generation: int, patience: float) -> bool:
        """Write the claim over another, or none; return whether it is there now."""
        data = self._holder.to_bytes()
        written = gcs.write(self._path, data, generation, patience=patience)
        if written is None:
            return self._is_ours(patience)
        self._generation = written
        return True

    def _is_ours(self, patience: float) -> bool:
        """Whether it is this claim that stands there: the answer may have got lost."""
        found = gcs.look(self._path, patience=patience)
        text = found and gcs.read(self._path, found.generation, patience=patience)
        is_ours = bool(text) and Holder.parse(text) == self._holder
        self._generation = found.generation if found and is_ours else 0
        return is_ours


def _boot() -> str:
    """Return what tells this process from all others that have its number.

    That are those of other kernels, of other containers under the same one, and those
    that had the number before, or get it afterwards.
    """
    return f"{_machine()} {_started(os.getpid())}"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: nobody is of this machine then
        return uuid.uuid4().hex


def _started(pid: int) -> str:
    """Return when a process began, by the kernel's own count; OSError where hidden."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ""
    return status.rpartition(")")[2].split()[19]


def _is_of_this_machine(other: Holder) -> bool:
    return other.boot.rpartition(" ")[0] == _machine()


def _is_gone(other: Holder) -> bool:
    """Whether a process of this machine is there no more; False: nobody knows."""
    if not _is_of_this_machine(other):
        return False
    try:
        os.kill(other.pid, 0)
        started = _started(other.pid)
    except ProcessLookupError:
        return True
    except OSError:  # another user's: it is there, whichever it is
        return False
    # Where /proc hides others' processes it says nothing of one that is there.
    return started not in ("", other.boot.rpartition(" ")[2])
