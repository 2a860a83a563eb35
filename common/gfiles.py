"""Files and folders, local or gs://: written whole or not at all, removed if ours.

What is said in `common.files` holds here; a bucket knows no links.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from common import files, gcs, storage_errors
from common.claims import Fence, no_fence
from common.console import warn
from common.errors import UserError, first_line
from common.files import STAGING, IsOurContent, IsOurs, staging_name

_PART_BYTES = 1 << 20  # of a file, read at a time
Errors = (tf.errors.OpError, OSError)  # what a file system may raise

# What was staged while a bucket was busy, by the file that it was to be.
_left: dict[str, list[str]] = {}


def local_path(path: str) -> str | None:
    """Return the path as the system has it; None if it is in a bucket."""
    return None if storage_errors.is_remote(path) else path.removeprefix("file://")


@contextlib.contextmanager
def writing(
    path: str,
    *,
    is_ours: IsOurContent | None = None,
    fence: Fence = no_fence,
) -> Iterator[str]:
    """Lend a path to write to; what stands there at the end replaces `path`.

    Args:
      path: of a file, or of a link, which is replaced and not followed.
      is_ours: for a path that a person names: see `refuse_foreign`.
      fence: called behind the block, before anything is replaced; raises where that
        must not be, as `common.claims.Claim.check` does.

    Raises:
      tf.errors.OpError: it cannot be renamed, or what the block or the fence raises.
        Nothing is replaced then.
      UserError: what stands there is not ours, before the block or after it.
    """
    _refuse(path, is_ours)
    staging = staging_name(path)
    try:
        yield staging
        _refuse(path, is_ours)  # somebody may have put it there meanwhile
        rename(staging, path, fence)
    except BaseException as error:
        _left.setdefault(path, []).append(staging)
        # A bucket that is busy would have this wait for as long again.
        if local_path(path) or not storage_errors.is_busy(error, path):
            _remove_left(path)
        raise
    _remove_left(path)


def _remove_left(path: str) -> None:
    left = _left.pop(path, [])
    try:
        while left:
            with contextlib.suppress(tf.errors.NotFoundError):  # it was never sent
                tf.io.gfile.remove(left[-1])
            left.pop()
    except tf.errors.OpError:
        _left[path] = left  # for the next time


def rename(staging: str, path: str, fence: Fence) -> None:
    """Give what is staged its name, where the fence lets one; OpError if not."""
    fence()
    try:
        tf.io.gfile.rename(staging, path, overwrite=True)
    except tf.errors.NotFoundError:
        fence()  # whoever takes a folder over removes what others have staged there
        raise


def _refuse(path: str, is_ours: IsOurContent | None) -> None:
    if is_ours is not None:
        refuse_foreign(path, is_ours)
        return
    local, why = local_path(path), None
    if local is not None:
        with contextlib.suppress(OSError):  # then writing will tell
            why = files.why_not_replaced(local)
    if why:
        raise tf.errors.AlreadyExistsError(None, None, why)


def refuse_foreign(path: str, is_ours: IsOurContent) -> None:
    """Refuse as `files.refuse_foreign` does; in a bucket, too."""
    local = local_path(path)
    if local is not None:
        files.refuse_foreign(local, is_ours)
    elif exists(path):
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                data = file.read() if file.size() <= files.MOST_BYTES else None
        except tf.errors.OpError as error:
            raise storage_errors.cannot_read(path, error) from error
        files.require_ours(path, data, is_ours)


def write_text(path: str, text: str, *, fence: Fence = no_fence) -> None:
    """Write `path` by renaming a finished copy; errors of `storage_errors`."""
    write_bytes(path, text.encode(), fence=fence)


def write_bytes(
    path: str,
    data: bytes,
    *,
    is_ours: IsOurContent | None = None,
    fence: Fence = no_fence,
) -> None:
    """Write as `write_text` does; `is_ours` and `fence` as of `writing`."""
    try:
        with (
            writing(path, is_ours=is_ours, fence=fence) as staging,
            tf.io.gfile.GFile(staging, "wb") as file,
        ):
            file.write(data)
    except tf.errors.OpError as error:
        raise storage_errors.cannot_write(path, error) from error


def remove(path: str) -> None:
    """Remove a file if it is there; UserError or Restart when it cannot be."""
    try:
        tf.io.gfile.remove(path)
    except tf.errors.NotFoundError:
        return
    except tf.errors.OpError as error:
        what = f"cannot remove {path}"
        raise storage_errors.cannot_write(path, error, what=what) from error


def remove_stale_files(
    folder: str, *, of: IsOurs, older_than_seconds: float = 3600.0
) -> None:
    """Remove what a `writing` that was killed has left in a folder.

    Whatever cannot be removed is a warning only: it does no harm but take space.

    Args:
      folder: those below it are not searched; it need not exist.
      of: tells of a name whether a file of ours was to get it.
      older_than_seconds: by the clock of the disk against that of this machine; what
        is younger may be the file that another process is writing now.
    """
    before = time.time() - older_than_seconds
    try:
        for name in names(folder):
            staging = STAGING.fullmatch(name)
            if staging and of(staging["name"]):
                _remove_if_older(f"{folder}/{name}", before)
    except tf.errors.NotFoundError:
        return
    except Errors as error:
        warn(f"what was left aside in {folder} stays: {first_line(error)}")


def _remove_if_older(path: str, before: float) -> None:
    """Remove a file last written before a moment, in seconds since 1970."""
    local = local_path(path)
    if local is not None and files.kind(local) != files.FILE:
        return  # a link, perhaps to a file
    with contextlib.suppress(tf.errors.NotFoundError):  # it has just got its name
        status = tf.io.gfile.stat(path)
        if not status.is_directory and status.mtime_nsec < before * 1e9:
            tf.io.gfile.remove(path)


def names(folder: str) -> list[str]:
    """Return the names in a folder, whatever their bytes; OSError or OpError."""
    try:
        return [name.rstrip("/") for name in _listed(folder)]
    except UnicodeDecodeError:  # TensorFlow's list is of UTF-8 alone
        return os.listdir(local_path(folder) or folder)


def is_utf8(name: str) -> bool:
    """Whether TensorFlow can be asked for a name; not for one of other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(folder: str) -> list[str]:
    try:
        return tf.io.gfile.listdir(folder)
    except tf.errors.NotFoundError:
        # Of a bucket that did not answer TensorFlow says so, too: this says why.
        if kind(folder) == files.FOLDER:
            raise tf.errors.UnavailableError(
                None, None, f"{folder} was not to be listed a moment ago"
            ) from None
        raise


def kind(path: str) -> str | None:
    """Return what stands at a path, as `files.kind` does; OSError or OpError."""
    local = local_path(path)
    if local is not None:
        return files.kind(local)
    try:  # not isdir, for which a bucket that does not answer is no folder
        is_folder = tf.io.gfile.stat(path).is_directory
    except tf.errors.NotFoundError:
        return None
    return files.FOLDER if is_folder else files.FILE


def tree(folder: str) -> dict[str, str]:
    """Return what lies in a folder, as `files.tree` does; OSError or OpError."""
    local = local_path(folder)
    if local is not None:
        return files.tree(local)
    found = {}
    for name in sorted(filter(None, _listed(folder))):
        path = f"{folder}/{name}".rstrip("/")
        if name.endswith("/") or kind(path) == files.FOLDER:
            name = name.rstrip("/")
            found[f"{name}/"] = files.FOLDER
            found |= {f"{name}/{below}": one for below, one in tree(path).items()}
        else:
            found[name] = files.FILE
    return found


def remove_folder(folder: str, is_ours: IsOurs) -> str | None:
    """Remove a folder that is ours, as `files.remove_folder` does.

    Raises:
      OSError, tf.errors.OpError: something cannot be removed.
    """
    local = local_path(folder)
    if local is not None:
        return files.remove_folder(local, is_ours)
    what = kind(folder)
    if what != files.FOLDER:
        return None if what is None else f"{folder} is a {what}"
    is_gone = contextlib.suppress(tf.errors.NotFoundError)  # by another process
    with is_gone:
        found = tree(folder)
        if why := files.why_foreign(folder, found, is_ours):
            return why
        for path in (path for path, one in found.items() if one == files.FILE):
            with is_gone:
                tf.io.gfile.remove(f"{folder}/{path}")
        # What stands for folders in a bucket; where something has just come, all stays.
        if kind(folder) == files.FOLDER and files.FILE not in tree(folder).values():
            tf.io.gfile.rmtree(folder)
    return None


def read_bytes(path: str) -> bytes:
    """Return the content of a file; OpError, or UserError, when it cannot be read."""
    require_file(path)
    with tf.io.gfile.GFile(path, "rb") as file:
        # To the end, not up to the size: of gs:// TensorFlow may remember an older one.
        parts = [file.read(_PART_BYTES)]
        while len(parts[-1]) == _PART_BYTES:
            parts.append(file.read(_PART_BYTES))
    return b"".join(parts)


def copy(source: str, target: str) -> None:
    """Copy a file to where none is.

    Raises:
      OpError, UserError: it cannot be.
      Restart: the storage does not answer now.
    """
    if not (source.startswith(gcs.SCHEME) and target.startswith(gcs.SCHEME)):
        tf.io.gfile.copy(source, target)
    # The storage does that itself: through TensorFlow all of it would pass by here.
    elif not gcs.copy(source, target, generation=0) and gcs.look(target) is None:
        raise tf.errors.NotFoundError(None, None, f"{source} is gone")


def sha256(path: str) -> str:
    """Return the digest of a file in hexadecimal; OSError or OpError."""
    local = local_path(path)
    if local is not None:
        return files.sha256(local)
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def make_folder(path: str) -> None:
    """Make a folder and its parents; errors of `storage_errors`."""
    try:
        make_folders(path)
    except tf.errors.OpError as error:
        what = f"cannot make the folder {path}"
        raise storage_errors.cannot_write(path, error, what=what) from error


def make_folders(path: str) -> None:
    """Make a folder and its parents; OpError when it cannot be."""
    if not path.startswith(gcs.SCHEME):
        tf.io.gfile.makedirs(path)
        return
    # A bucket needs no parents. TensorFlow looks for them up to the bucket itself: for
    # ever if that is not there, and in vain if it may not be looked at.
    with contextlib.suppress(tf.errors.AlreadyExistsError):
        tf.io.gfile.mkdir(path)


def exists(path: str) -> bool:
    """Whether there is such a file or folder; errors of `storage_errors`."""
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(path, error) from error


def require_file(path: str) -> None:
    """Raise UserError where something else stands: to read a pipe would hang."""
    try:
        what = what_no_file(path)
    except OSError as error:  # links in a ring, for one
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if what is not None:
        raise UserError(f"cannot read {path}: it is a {what}; move it away")


def what_no_file(path: str) -> str | None:
    """Return what stands at a path where a file should, links followed; else None.

    None, too, where nothing is, or in a bucket. OSError where it cannot be told.
    """
    local = local_path(path)
    what = None if local is None else files.kind(local, follow_links=True)
    return None if what == files.FILE else what


def read_text(path: str) -> str | None:
    """Return the content of `path`, None when there is no such file."""
    if not exists(path):
        return None
    try:
        return read_bytes(path).decode()
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(path, error) from error


def read_json(path: str) -> dict[str, Any]:
    """Return a JSON object, an empty one when there is none that can be read."""
    try:
        found = json.loads(read_text(path) or "{}")
    except (ValueError, RecursionError):  # somebody's half file
        return {}
    return found if isinstance(found, dict) else {}


def write_json(
    path: str,
    values: Mapping[str, Any],
    keep: Iterable[str] = (),
    *,
    fence: Fence = no_fence,
) -> dict[str, Any]:
    """Write a JSON object in place of the one before.

    Args:
      path: of the file.
      values: of the object. What is not finite is null in the file, see `to_json`.
      keep: keys whose number the one before keeps where `values` have none.
      fence: as of `writing`.

    Returns:
      The whole of it; `values` as they were given, so that a NaN stays a number.

    Raises:
      UserError: the file cannot be written.
    """
    old = read_json(path)
    numbers = (int, float, type(None))
    kept = {k: old[k] for k in keep if k in old and isinstance(old[k], numbers)}
    merged = kept | dict(values)
    text = json.dumps(to_json(merged), indent=2, allow_nan=False) + "\n"
    write_text(path, text, fence=fence)
    return merged


def to_json(value: Any) -> Any:
    """Return what strict JSON can say: null for a number that is not finite."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
