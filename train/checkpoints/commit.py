"""How the files of a checkpoint get their names, and lose them.

The index makes a checkpoint exist: it gets its name last and loses it first.

    writer, taken for dead        next holder of the folder
    stages its files
    looks: the folder is its own
      (stopped here)              takes the folder over
                                  removes what others have staged   (1)
                                  makes each index a new generation (2)
                                  looks at what is there, goes on
      (goes on)
    renames: nothing is there to be renamed, by (1)
    deletes: another generation, by (2); what has no index is no checkpoint, and may go

So nothing that was looked for before a folder is taken over changes anything after
that, wherever it waits. A request to a bucket may wait on its way, too: there each
names the generation of what it replaces, so what it has not seen it does not replace.
Everything that is written in a folder is therefore staged first, and then looked for
(`gfiles.writing`, too). (2) is of buckets: on a disk a process that is merely stopped
holds its folder by a lock. A disk without locks has (1) alone.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

import tensorflow as tf

from common import gcs, gfiles
from common.claims import Fence, no_fence
from common.errors import Restart

DATA, MANIFEST, INDEX = ".data-00000-of-00001", ".json", ".index"
# The manifest says whose the others are, also where a kill has left no more than that.
ORDER = (MANIFEST, DATA, INDEX)
# What os.fsync, or os.open of a folder, says where there is no such thing.
_CANNOT_SYNC = (
    errno.EACCES,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
)
# More than one try follows an answer that got lost, or a request that came late.
_TRIES = 5


def commit(path: str, directory: str, fence: Fence) -> str:
    """Give the files of a checkpoint their names; the index is the last.

    Args:
      path: of the staged checkpoint.
      directory: where it is to be, on the same storage.
      fence: called before anything gets its name or loses it.

    Returns:
      The path of the checkpoint.

    Raises:
      tf.errors.OpError, OSError: the file system refuses.
      UserError, Restart: the bucket does, or what the fence raises.
    """
    final = f"{directory}/{path.rpartition('/')[2]}"
    for suffix in ORDER:
        _sync(f"{path}{suffix}")
    remove(f"{final}{INDEX}", fence)  # else it would speak of other data for a moment
    for suffix in ORDER:
        _rename(f"{path}{suffix}", f"{final}{suffix}", fence)
        _sync(directory)
    return final


def remove(path: str, fence: Fence) -> None:
    """Remove a file if it is there, and the fence lets one; raises as `commit`."""
    if path.startswith(gcs.SCHEME):
        _settle(path, fence, lambda seen: not seen or gcs.remove(path, seen))
        return
    fence()
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(path)


def outdate(paths: Iterable[str]) -> None:
    """Give objects of a bucket a generation that nobody has seen; raises as `commit`.

    Args:
      paths: on a disk nothing happens to them.
    """
    for path in paths:
        if path.startswith(gcs.SCHEME):
            _settle(
                path, no_fence, lambda seen, it=path: not seen or gcs.copy(it, it, seen)
            )


def _rename(source: str, target: str, fence: Fence) -> None:
    """Rename a file; what is staged in a bucket is copied, and goes with its folder."""
    if target.startswith(gcs.SCHEME):
        _settle(target, fence, lambda seen: gcs.copy(source, target, seen))
        return
    gfiles.rename(source, target, fence)


def _settle(path: str, fence: Fence, act: Callable[[int], bool]) -> None:
    """Do something to an object, unless the folder is another process's.

    Args:
      path: of the object.
      fence: called between the look at it and what is done.
      act: is handed the generation that was seen; returns whether it is done, False
        where something else has happened there meanwhile.

    Raises:
      Restart: something else happens there all the time, or what is to be renamed is
        gone; or as `gcs`.
      UserError: as `gcs`, and what the fence raises.
    """
    for _ in range(_TRIES):
        found = gcs.look(path)
        fence()
        if act(found.generation if found else 0):
            return
    fence()
    raise Restart(f"{path} was changed by somebody else while it was written")


def _sync(path: str) -> None:
    """Return when a local file, or the names in a local folder, are on the disk.

    gfile hands what it writes to the kernel, which keeps it for a while and writes it
    in an order of its own: a power cut could leave an index without its data.
    """
    if "://" in path:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
