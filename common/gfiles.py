"""Small files of a run, written whole or not at all, local or gs://."""

import contextlib
import json
import math
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from common.console import warn
from common.errors import UserError, first_line
from common.files import STAGING, staging_name


@contextlib.contextmanager
def writing(path: str) -> Iterator[str]:
    """Lend a path to write to; what stands there at the end replaces `path`.

    Raises:
      tf.errors.OpError: it cannot be renamed, or what the block raises. Nothing is
        replaced then.
    """
    staging = staging_name(path)
    try:
        yield staging
        tf.io.gfile.rename(staging, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(staging)
        raise


def write_text(path: str, text: str) -> None:
    """Write `path` by renaming a finished copy; UserError when it cannot be."""
    try:
        with writing(path) as staging, tf.io.gfile.GFile(staging, "w") as file:
            file.write(text)
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot write {path}: {first_line(error)}; free some space, mend the "
            "permissions or name another folder"
        ) from error


def remove(path: str) -> None:
    """Remove a file if it is there; UserError when it cannot be."""
    try:
        tf.io.gfile.remove(path)
    except tf.errors.NotFoundError:
        return
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot remove {path}: {first_line(error)}; mend the permissions"
        ) from error


def remove_stale_files(
    folder: str,
    *,
    older_than_seconds: float = 3600.0,
    of: Container[str] | None = None,
) -> None:
    """Remove what a `writing` that was killed has left in a folder.

    Whatever cannot be removed is a warning only: it does no harm but take space.

    Args:
      folder: those below it are not searched; it need not exist.
      older_than_seconds: by the clock of the disk against that of this machine; what
        is younger may be the file that another process is writing now.
      of: names that files were to get; what was to get another one stays. None is all.
    """
    before = time.time() - older_than_seconds
    try:
        for name in tf.io.gfile.listdir(folder):
            staging = STAGING.fullmatch(name)
            if staging and (of is None or staging["name"] in of):
                _remove_if_older(f"{folder}/{name}", before)
    except tf.errors.NotFoundError:
        return
    except tf.errors.OpError as error:
        warn(f"what was left aside in {folder} stays: {first_line(error)}")


def _remove_if_older(path: str, before: float) -> None:
    """Remove a file last written before a moment, in seconds since 1970."""
    with contextlib.suppress(tf.errors.NotFoundError):  # it has just got its name
        status = tf.io.gfile.stat(path)
        if not status.is_directory and status.mtime_nsec < before * 1e9:
            tf.io.gfile.remove(path)


def make_folder(path: str) -> None:
    """Make a folder and its parents; UserError when it cannot be."""
    try:
        tf.io.gfile.makedirs(path)
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot make the folder {path}: {first_line(error)}; name another one"
        ) from error


def exists(path: str) -> bool:
    """Whether there is such a file or folder; UserError when it cannot be told."""
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot read {path}: {first_line(error)}; mend the permissions"
        ) from error


def read_text(path: str) -> str | None:
    """Return the content of `path`, None when there is no such file."""
    if not exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            return file.read()
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot read {path}: {first_line(error)}; mend the permissions"
        ) from error


def read_json(path: str) -> dict[str, Any]:
    """Return a JSON object, an empty one when there is none that can be read."""
    try:
        found = json.loads(read_text(path) or "{}")
    except ValueError:  # somebody's half file
        return {}
    return found if isinstance(found, dict) else {}


def write_json(
    path: str, values: Mapping[str, Any], keep: Iterable[str] = ()
) -> dict[str, Any]:
    """Write a JSON object in place of the one before.

    Args:
      path: of the file.
      values: of the object. What is not finite is null in the file, see `to_json`.
      keep: keys that the one before keeps where `values` have none.

    Returns:
      The whole of it; `values` as they were given, so that a NaN stays a number.

    Raises:
      UserError: the file cannot be written.
    """
    old = read_json(path)
    merged = {key: old[key] for key in keep if key in old} | dict(values)
    write_text(path, json.dumps(to_json(merged), indent=2, allow_nan=False) + "\n")
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
