"""One process at a time writes in a folder: who holds it says `.claim.json` there.

On a disk that is a file with a lock (`disk`), in a bucket an object with a generation
(`bucket`); what both have in common is in `holder`. Where nobody can tell, as of a
process on another machine, the age of its last sign of life does: whoever holds a
folder gives one every ten seconds, and after 90 without counts as dead. Ages are those
of the storage's own clock; where that makes no sense, one waits for so long.

A process that was taken for dead, and was not, finds another name there when it looks,
which it does before everything that it gives its name. What it does between its look
and that is too late: whoever takes a folder over removes first what others have staged
there, see `train.checkpoints.commit`.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from common import gcs
from common.claims import bucket, disk, holder
from common.claims.holder import (
    NAME,
    Claim,
    Fence,
    Held,
    Lease,
    Unwritable,
    no_fence,
)
from common.errors import Restart, UserError

__all__ = ["NAME", "Claim", "Fence", "Held", "Unwritable", "hold", "no_fence"]

# A storage that fails now may be well again before anybody takes over; if not,
# `check` tells.
_PASSES = (OSError, Restart, UserError)


@contextlib.contextmanager
def hold(folder: str, purpose: str) -> Iterator[Claim]:
    """Hold a folder against other processes; it is free again at the end.

    Args:
      folder: it exists; on a disk or in a bucket. One of another file system is not
        held: this asks nobody there.
      purpose: for those who are refused, as in "a training".

    Raises:
      Held: another process holds it. One of another machine that gives no sign of life
        is waited for until it counts as dead.
      UserError: the folder cannot be written; an Unwritable where it may not be.
      Restart: the storage does not answer now, or SIGTERM has come while waiting.
    """
    folder = folder.removeprefix("file://")
    if folder.startswith(gcs.SCHEME):
        lease: Lease = bucket.Object(folder, purpose)
    elif "://" in folder:
        yield _Unheld()
        return
    else:
        lease = disk.File(Path(folder), purpose)
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(lease, done), daemon=True)
    try:
        lease.take()
        renewer.start()
        yield lease
    finally:
        done.set()
        if renewer.ident is not None:
            renewer.join(holder.RENEW_SECONDS)
        # What ends the process comes first.
        with contextlib.suppress(*_PASSES):
            lease.release()


class _Unheld:
    """The claim of a folder that cannot be held."""

    def check(self) -> None:
        """Raise nothing."""


def _renew(lease: Lease, done: threading.Event) -> None:
    while not done.wait(holder.RENEW_SECONDS):
        with contextlib.suppress(*_PASSES):
            lease.renew()
