"""Small files of a run, written whole or not at all, local or gs://."""

import contextlib
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from train.errors import UserError


def write_text(path: str, text: str) -> None:
    """Writes `path` by renaming a finished copy; UserError when it cannot be."""
    aside = f"{path}.part-{uuid.uuid4().hex}"  # several workers may write at once
    try:
        with tf.io.gfile.GFile(aside, "w") as file:
            file.write(text)
        tf.io.gfile.rename(aside, path, overwrite=True)
    except tf.errors.OpError as error:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(aside)
        raise UserError(
            f"cannot write {path}: {error.message}; free some space, mend the "
            "permissions or name another folder"
        ) from error


def make_folder(path: str) -> None:
    """Makes a folder and its parents; UserError when it cannot be."""
    try:
        tf.io.gfile.makedirs(path)
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot make the folder {path}: {error.message}; name another one"
        ) from error


def read_text(path: str) -> str | None:
    """Returns the content of `path`, None when there is no such file."""
    try:
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return file.read()
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot read {path}: {error.message}; mend the permissions"
        ) from error


def read_json(path: str) -> dict[str, Any]:
    """Returns a JSON object, an empty one when there is none that can be read."""
    try:
        return json.loads(read_text(path) or "{}")
    except ValueError:  # somebody's half file
        return {}


def write_json(
    path: str, values: Mapping[str, Any], keep: Iterable[str] = ()
) -> dict[str, Any]:
    """Writes a JSON object, with the keys `keep` of the one before, and returns it."""
    old = read_json(path)
    merged = {key: old[key] for key in keep if key in old} | dict(values)
    write_text(path, json.dumps(merged, indent=2) + "\n")
    return merged
