"""A file that grows at its end, by what is new alone: on a disk, or in a bucket.

An object of a bucket cannot be written on. But the storage joins objects by itself, and
gives the whole the name of one of them: only what is new is sent. Either way nothing
is written on that is not as it was last seen, for another process may have been there.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from common import files, gcs, gfiles, storage_errors
from common.claims import Fence, no_fence
from common.errors import Restart

# Of a file on a disk: inode, bytes, and when it was changed. Of an object: generation.
_Version = tuple[int, ...]
_NOTHING: _Version = ()

STAGED_RECORDS = "joined"  # the name of records that are sent, with an end


class GrowingFile:
    """A file to whose end something is added again and again; not for several threads.

    Errors are those of `storage_errors`, and what the fence raises: nothing is written
    then, but where a bucket did not answer (Restart) that is not known.
    """

    def __init__(
        self, path: str, fence: Fence = no_fence, *, staged_as: str | None = None
    ):
        """Touch nothing yet.

        Args:
          path: local or gs://; of other storages all is written anew each time.
          fence: as of `gfiles.writing`.
          staged_as: path by which what is sent to a bucket is named, with an end as of
            `files.staging_name`; None is `path`.
        """
        self.path = path
        self._staged_as = staged_as or path
        self._fence = fence
        self._version: _Version | None = None  # as it was last seen
        self._left: list[str] = []  # staged, and not to be removed at that time

    def read(self) -> bytes:
        """Return what is in it, nothing where there is no file; it counts as seen."""
        self._version = None
        version = self._look()
        try:
            content = gfiles.read_bytes(self.path) if gfiles.exists(self.path) else b""
        except tf.errors.OpError as error:
            raise storage_errors.cannot_read(self.path, error) from error
        self._version = version
        return content

    def is_as_seen(self) -> bool:
        """Whether nobody else has written since it was read or added to."""
        return self._version is not None and self._version == self._look()

    def append(self, data: bytes) -> bool:
        """Add to its end, whole or not at all.

        Returns:
          Whether it is done. It is not where the file is not as it was last seen, or
          where it cannot be done without writing all of it.
        """
        if self._version is None:
            return False
        if self._version and not data:
            return True
        if gfiles.local_path(self.path) is None:
            return self._join(data)
        return self._version != _NOTHING and self._write_on(data)

    def replace(self, data: bytes) -> None:
        """Write all of it anew, whatever is there; it does not count as seen."""
        self._version = None
        gfiles.write_bytes(self.path, data, fence=self._fence)

    def _look(self) -> _Version | None:
        """Return what tells this content from others, None where nothing does."""
        if self.path.startswith(gcs.SCHEME):
            found = gcs.look(self.path)
            return _NOTHING if found is None else (found.generation,)
        local = gfiles.local_path(self.path)
        if local is None:
            return None
        try:
            return _of_disk(os.lstat(local))
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            raise storage_errors.cannot_read(self.path, error) from error

    def _write_on(self, data: bytes) -> bool:
        """Add to a file of a disk; what a full one has taken of it is cut off again."""
        self._fence()
        try:
            with _opened(str(gfiles.local_path(self.path))) as file:
                before = os.fstat(file)
                if _of_disk(before) != self._version:
                    return False
                try:
                    _write(file, data)
                except BaseException:
                    os.ftruncate(file, before.st_size)
                    raise
                self._version = _of_disk(os.fstat(file))
        except (FileNotFoundError, PermissionError):  # a rename may be allowed
            return False
        except OSError as error:
            self._version = None
            raise storage_errors.cannot_write(self.path, error) from error
        return True

    def _join(self, data: bytes) -> bool:
        """Send what is new, and have the storage join it to what it has."""
        seen, self._version = self._version or _NOTHING, None
        staging = files.staging_name(self._staged_as)
        self._left.append(staging)
        parts = [self.path, staging] if seen else [staging]
        try:
            _send(staging, data)
            self._fence()
            generation = gcs.compose(parts, self.path, seen[0] if seen else 0)
        except Restart:  # a bucket that is busy would have one wait for as long again
            raise
        except gcs.Refused:  # of another storage class, say: then all is written anew
            generation = None
        except BaseException:
            self._remove_left()
            raise
        self._remove_left()
        if generation is None:
            self._fence()  # whoever takes a folder over removes what others have staged
            return False
        self._version = (generation,)
        return True

    def _remove_left(self) -> None:
        """Remove what was staged; what a bucket does not remove now, the next time."""
        with contextlib.suppress(tf.errors.OpError):
            while self._left:
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(self._left[-1])
                self._left.pop()


class GrowingRecords:
    """Records of TensorFlow's, in a bucket; of those of `tf.io` each flush sends all.

    After an error it is to be closed: what the flush had is not in it, or all of it is.
    """

    def __init__(self, path: str, fence: Fence = no_fence):
        """Touch nothing yet; `path` is where no file is, `fence` as of `GrowingFile`.

        What is sent has another name meanwhile: TensorBoard, which takes each that has
        its own for a file, would leave the one before for good.
        """
        folder = path.rpartition("/")[0]
        self._file = GrowingFile(path, fence, staged_as=f"{folder}/{STAGED_RECORDS}")
        self._new: list[bytes] = []
        self._has_begun = False

    def write(self, record: bytes) -> None:
        """Take a record."""
        self._new.append(record)

    def flush(self) -> None:
        """Write what is new; UserError or Restart when it cannot be."""
        new, self._new = _framed(self._new), []
        if not self._has_begun:
            self._file.read()
            self._has_begun = True
        if new and not self._file.append(new):
            raise Restart(f"{self._file.path} cannot be written on now")

    def close(self) -> None:
        """Do nothing: what was flushed is there."""


def _framed(records: Sequence[bytes]) -> bytes:
    """Return records as they are in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/records"
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
        return Path(path).read_bytes()


def _send(path: str, data: bytes) -> None:
    try:
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(data)
    except tf.errors.OpError as error:
        raise storage_errors.cannot_write(path, error) from error


def _of_disk(status: os.stat_result) -> _Version | None:
    """Return the version of a file; None of what must not be written on.

    That is a link, or a file that has other names: its content is theirs, too.
    """
    is_alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return (status.st_ino, status.st_size, status.st_mtime_ns) if is_alone else None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """Lend a file to be written on, never what a link points to."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        yield file
    finally:
        os.close(file)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
