"""The folder of an export, written aside, and swapped for the one before in one step.

It stands beside its place under a random name. On a disk it exchanges its name with an
older export, so that there is a whole one at any time. Where the system cannot do that,
the older one has a name of its own for a moment, and a killed export leaves it there.
What lies aside and has its list is a whole export: it is never removed for its age.
"""

import contextlib
import errno
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator, Mapping

import tensorflow as tf

from common import files, gfiles, storage_errors
from common.console import warn
from common.errors import Restart, UserError
from train.exports.export_target import LIST, WRITTEN, refuse, why_foreign, words

_OLDER = re.compile(r"(?P<name>.+)\.before-[0-9a-f]{32}", re.DOTALL)
# Why a folder cannot be renamed, which is only known when it is tried.
_NOT_RENAMED = {
    errno.EXDEV: "it came with the image of this container (overlayfs)",
    errno.EBUSY: "something is mounted there",
}


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
    _tell_of_older(export_dir)
    staging = files.staging_name(export_dir)
    try:
        _make(staging, export_dir)
        yield staging
        try:
            _write_list(staging)
            refuse(export_dir, inputs)  # something may have come there meanwhile
            older = _give_name(staging, export_dir)
        except gfiles.Errors as error:
            if why := _NOT_RENAMED.get(getattr(error, "errno", None) or 0):
                raise StaysAside(
                    f"cannot rename {export_dir}: {why}; what was to replace it stays "
                    f"in {staging}: rename that, or name another --export_dir"
                ) from error
            raise _not_written(export_dir, error) from error
    except StaysAside:
        with contextlib.suppress(UserError, Restart, *gfiles.Errors):
            _write_list(staging)  # it is whole, and will not go for its age
        raise
    except BaseException:
        _remove(staging)
        raise
    if older:
        _remove_older(older)
    _remove_stale(export_dir)


def _make(staging: str, export_dir: str) -> None:
    """Make the folder with the mode and the group of the one that it will replace.

    It is made before the work is done, which would be lost where none can be made.
    """
    if "://" in export_dir:
        gfiles.make_folder(staging)
        return
    try:
        if files.kind(export_dir) != files.FOLDER:
            os.makedirs(staging)
            return
        status = os.stat(export_dir)
        os.mkdir(staging, 0o700)
        with contextlib.suppress(PermissionError):
            os.chown(staging, -1, status.st_gid)
        os.chmod(staging, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
    except OSError as error:
        raise _not_written(export_dir, error) from error


def _not_written(export_dir: str, error: Exception) -> UserError | Restart:
    return storage_errors.cannot_write(export_dir, error, folder="--export_dir")


def _write_list(folder: str) -> None:
    digests = {
        path: gfiles.sha256(f"{folder}/{path}")
        for path, what in gfiles.tree(folder).items()
        if what == files.FILE and path != LIST
    }
    gfiles.make_folder(f"{folder}/{os.path.dirname(LIST)}")
    gfiles.write_text(f"{folder}/{LIST}", json.dumps(digests, indent=2) + "\n")


def _give_name(staging: str, export_dir: str) -> str | None:
    """Give the finished folder its name; return where an older one lies now."""
    if "://" in export_dir:
        if why := gfiles.remove_folder(export_dir, WRITTEN.fullmatch):
            raise UserError(f"{why}; name another --export_dir")
        tf.io.gfile.rename(staging, export_dir)
        return None
    if not files.kind(export_dir) or not os.listdir(export_dir):
        os.rename(staging, export_dir)  # it replaces nothing but an empty folder
        return None
    if files.exchange(staging, export_dir):
        return staging
    older = f"{export_dir}.before-{uuid.uuid4().hex}"
    os.rename(export_dir, older)
    try:
        os.rename(staging, export_dir)
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(OSError):
            os.rename(older, export_dir)
        raise
    return older


def _aside(export_dir: str, names: re.Pattern[str]) -> Iterator[str]:
    """Yield the paths of what exports to the same folder have left beside it."""
    if "://" in export_dir:
        return  # folders there have no age
    parent, name = os.path.split(os.path.abspath(export_dir))
    with contextlib.suppress(OSError):  # no such folder
        for other in sorted(os.listdir(parent)):
            aside = names.fullmatch(other)
            if aside and aside["name"] == name:
                yield f"{parent}/{other}"


def _tell_of_older(export_dir: str) -> None:
    """Tell where the export is that one without an exchange had when it was killed."""
    for path in _aside(export_dir, _OLDER):
        with contextlib.suppress(OSError):
            if not files.kind(export_dir):
                warn(
                    f"there is no {export_dir}: an export that was killed has left "
                    f"the one before in {path}; rename it, or move it away"
                )


def _remove_stale(export_dir: str) -> None:
    """Remove what exports to the same folder have left that were killed long ago."""
    before = time.time() - files.STALE_SECONDS
    for path in _aside(export_dir, files.STAGING):
        with contextlib.suppress(OSError):  # another process was faster
            if _touched(path) > before:
                continue
            if files.kind(f"{path}/{LIST}"):  # written last
                warn(f"{path} stays: it is no half export; move it away")
            else:
                _remove(path)


def _touched(path: str) -> float:
    """Return when what stands there was changed last, or anything in it."""
    found = files.tree(path) if files.kind(path) == files.FOLDER else {}
    paths = [path, *(f"{path}/{one}" for one in found)]
    return max(os.lstat(one).st_mtime for one in paths)


def _remove_older(folder: str) -> None:
    """Remove the export before, unless somebody has changed it in the last moment."""
    try:
        why = why_foreign(folder)
        if not why:
            os.unlink(f"{folder}/{LIST}")  # what a kill leaves is no whole export
    except OSError as error:
        why = words(error)
    if why:
        warn(f"the export before stays in {folder}: {why}; move it away")
    else:
        _remove(folder)


def _remove(folder: str) -> None:
    """Remove what has been set aside, as far as it is ours."""
    try:
        why = gfiles.remove_folder(folder, WRITTEN.fullmatch)
    except gfiles.Errors as error:
        why = words(error)
    if why:
        warn(f"{folder} stays: {why}")
