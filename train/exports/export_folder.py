"""The folder of an export, written aside, and swapped for the one before in one step.

It stands beside its place under a random name. On a disk it exchanges its name with an
older export, so that there is a whole one at any time.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping

import tensorflow as tf

from common import files, gfiles
from common.console import warn
from common.errors import UserError
from train.exports.export_target import LIST, WRITTEN, refuse, words


class StaysAside(UserError):  # noqa: N818 - a state
    """What was written is not what it should be, and is kept to be looked at."""


@contextlib.contextmanager
def writing(export_dir: str, inputs: Mapping[str, str | None]) -> Iterator[str]:
    """Lend a folder to write an export to; at the end it is the one at `export_dir`.

    What was written goes when the block raises, unless that is StaysAside.

    Args:
      export_dir: as for `refuse`.
      inputs: as for `refuse`.

    Raises:
      UserError: `refuse` does, before the block or after it; or the folder cannot get
        its name.
    """
    refuse(export_dir, inputs)
    _remove_stale(export_dir)
    staging = files.staging_name(export_dir)
    try:
        yield staging
        try:
            _write_list(staging)
            refuse(export_dir, inputs)  # something may have come there meanwhile
            _give_name(staging, export_dir)
        except gfiles.Errors as error:
            raise UserError(
                f"cannot write {export_dir}: {words(error)}; free some space, mend "
                "the permissions or name another --export_dir"
            ) from error
    except StaysAside:
        raise
    except BaseException:
        _remove(staging)
        raise
    _remove(staging)  # it is what stood there before


def _write_list(folder: str) -> None:
    digests = {
        path: gfiles.sha256(f"{folder}/{path}")
        for path, what in gfiles.tree(folder).items()
        if what == files.FILE
    }
    gfiles.write_text(f"{folder}/{LIST}", json.dumps(digests, indent=2) + "\n")


def _give_name(staging: str, export_dir: str) -> None:
    """Give the finished folder its name; an older one has the staging name then."""
    if "://" in export_dir:
        if why := gfiles.remove_folder(export_dir, WRITTEN.fullmatch):
            raise UserError(f"{why}; name another --export_dir")
        tf.io.gfile.rename(staging, export_dir)
    elif not files.kind(export_dir) or not os.listdir(export_dir):
        os.rename(staging, export_dir)  # it replaces nothing but an empty folder
    elif not files.exchange(staging, export_dir):
        older = files.staging_name(export_dir)
        os.rename(export_dir, older)
        try:
            os.rename(staging, export_dir)
        except OSError:
            os.rename(older, export_dir)
            raise
        os.rename(older, staging)


def _remove_stale(export_dir: str) -> None:
    """Remove what exports to the same folder have left that were killed long ago."""
    if "://" in export_dir:
        return  # folders there have no age
    parent, name = os.path.split(os.path.abspath(export_dir))
    before = time.time() - files.STALE_SECONDS
    with contextlib.suppress(OSError):  # no such folder; or another was faster
        for other in os.listdir(parent):
            path, staging = f"{parent}/{other}", files.STAGING.fullmatch(other)
            if staging and staging["name"] == name and os.lstat(path).st_mtime < before:
                _remove(path)


def _remove(folder: str) -> None:
    """Remove what has been set aside, as far as it is ours."""
    try:
        why = gfiles.remove_folder(folder, WRITTEN.fullmatch)
    except gfiles.Errors as error:
        why = words(error)
    if why:
        warn(f"{folder} stays: {why}")
