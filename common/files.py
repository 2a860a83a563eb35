"""Files on a disk, written whole or not at all, and nobody else's touched.

What is being written stands beside its place under a random name, and gets its name by
one rename. What a process that was killed leaves there is found by that name. Before
anything is replaced or removed, what stands there is looked at: it has to be ours. No
link is followed to what it points to.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import stat
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import UserError

_NAME_BYTES = 255  # the longest name that there may be on a disk
STALE_SECONDS = 24 * 3600.0  # older than any write that is still under way
_NOT_ITSELF = re.compile(r"\[[^/]+\]|\\")  # of patterns: [ab] is no [, \x no \
STAGING = re.compile(r"(?P<name>.+)\.part-[0-9a-f]{32}", re.DOTALL)

FILE, FOLDER, LINK = "file", "folder", "link"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: LINK,
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
}
MOST_BYTES = 1 << 30  # of a file that a person names; ours are far smaller
_IHDR_END = 33  # a PNG begins with its signature, and a first chunk of 25 bytes
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What renameat2 says where the kernel or the file system cannot exchange.
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

Errors = (OSError,)  # what all of this may raise

# Tells of a name, relative to a folder, or of a file's content whether it is ours.
IsOurs = Callable[[str], object]
IsOurContent = Callable[[bytes], object]


def kind(path: str | os.PathLike[str], *, follow_links: bool = False) -> str | None:
    """Return what stands at a path: "file", "folder", "link" ...; None for nothing.

    Raises:
      OSError: it may not be looked at.
    """
    try:
        status = os.stat(path, follow_symlinks=follow_links)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _KINDS.get(stat.S_IFMT(status.st_mode), "device")


def why_a_pattern(path: str) -> str | None:
    """Return why TensorFlow finds no weights at a path, None if it does.

    It takes the names of checkpoints for patterns. Most characters of those stand for
    themselves, too.
    """
    found = _NOT_ITSELF.search(path)
    return found and (
        f"TensorFlow reads no weights under a name with {found[0]}, which it takes for "
        "a pattern: rename the folder, or name another"
    )


def staging_name(path: str | os.PathLike[str]) -> str:
    """Return another path beside this one, for what is to get its name later.

    It begins with the same name, of which the end is left out where it would get too
    long. What a killed process leaves under such a name is not recognised, and stays:
    it might be another file's. Only names that people give are as long as that.
    """
    folder, slash, name = os.fspath(path).rpartition("/")
    tail = f".part-{uuid.uuid4().hex}"  # several may write at once
    if len(os.fsencode(name + tail)) > _NAME_BYTES:
        name = os.fsencode(name)[: _NAME_BYTES - len(tail)].decode("utf-8", "ignore")
    return f"{folder}{slash}{name}{tail}"


@contextlib.contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a path beside this one to write to; what stands there at the end goes."""
    staging = Path(staging_name(path))
    try:
        yield staging
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], *, is_ours: IsOurContent | None = None
) -> Iterator[Path]:
    """Lend a path to write to; what stands there at the end replaces `path`.

    Nothing is replaced when the block raises, nor when it has written nothing.

    Args:
      path: of a file, or of a link, which is replaced and not followed.
      is_ours: for a path that a person names: see `refuse_foreign`.

    Raises:
      OSError: the file cannot be written or renamed, by its name; or what else the
        block raises.
      UserError: what stands there is not ours, before the block or after it.
    """
    _refuse(path, is_ours)
    with scratch(path) as staging:
        try:
            yield staging
            if staging.exists():
                _refuse(path, is_ours)  # somebody may have put it there meanwhile
                os.replace(staging, path)
        except OSError as error:
            if error.filename == str(staging):  # a name that nobody has heard of
                error.filename = os.fspath(path)
            raise


def write_bytes(
    path: str | os.PathLike[str], data: bytes, *, is_ours: IsOurContent | None = None
) -> None:
    """Write a file whole or not at all; raises as `writing` does."""
    with writing(path, is_ours=is_ours) as staging:
        try:
            staging.write_bytes(data)
        except OSError as error:  # a full disk names no file
            error.filename = error.filename or os.fspath(path)
            raise


def _refuse(path: str | os.PathLike[str], is_ours: IsOurContent | None) -> None:
    if is_ours is not None:
        refuse_foreign(path, is_ours)
    elif why := why_not_replaced(path):
        raise OSError(errno.EEXIST, why, os.fspath(path))


def why_not_replaced(path: str | os.PathLike[str]) -> str | None:
    """Return why a rename must not replace what stands at a path; None if it may.

    A rename would replace a pipe or a device, too: /dev/null of the whole machine.
    """
    found = kind(path)
    return None if found in (None, FILE, LINK) else f"a {found} is not replaced"


def refuse_foreign(path: str | os.PathLike[str], is_ours: IsOurContent) -> None:
    """Refuse to write to a path that a person named where something else stands.

    Args:
      path: of a file to be written; what is free, or ours, is fine.
      is_ours: tells it by a file's content.

    Raises:
      UserError: something stands there that is not ours, or it may not be looked at.
    """
    try:
        found = kind(path)
        if found is None:
            return
        if found != FILE:
            raise UserError(f"{path} is a {found}: name a file to be written anew")
        small = os.stat(path).st_size <= MOST_BYTES
        data = Path(path).read_bytes() if small else None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another file") from error
    require_ours(path, data, is_ours)


def require_ours(
    path: str | os.PathLike[str], data: bytes | None, is_ours: IsOurContent
) -> None:
    """Raise UserError unless a file is ours by its content; None is too much of it."""
    if data is None or not is_ours(data):
        raise UserError(
            f"{path} exists, and is not what this command has written: move it away "
            "or name another file"
        )


def digest(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal, for a mark that says: nobody changed this."""
    return hashlib.sha256(data).hexdigest()


def marked_png(data: bytes, command: str) -> bytes:
    """Return a picture that says which command drew it, and its digest."""
    text = f"Software\0efficientnet-x, {command}, sha256 {digest(data)}"
    chunk = b"tEXt" + text.encode()
    size, check = (struct.pack(">I", n) for n in (len(chunk) - 4, zlib.crc32(chunk)))
    return data[:_IHDR_END] + size + chunk + check + data[_IHDR_END:]


def is_our_png(data: bytes, command: str) -> bool:
    """Whether a command has drawn this picture, and nobody has changed it since."""
    mark = len(marked_png(b"", command))
    return data == marked_png(data[:_IHDR_END] + data[_IHDR_END + mark :], command)


def read_bytes(path: str) -> bytes:
    """Return the content of a file; OSError when it cannot be read."""
    return Path(path).read_bytes()


def sha256(path: str) -> str:
    """Return the digest of a file in hexadecimal; OSError when it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: str) -> dict[str, str]:
    """Return what lies in a folder at any depth: kind by relative path, in order.

    A folder's path ends in a slash, and comes before what lies in it. Links are not
    followed. OSError when a folder cannot be looked into.
    """
    found = {}
    for name in sorted(os.listdir(folder)):
        what = kind(f"{folder}/{name}") or FILE  # it has just gone
        if what == FOLDER:
            below = tree(f"{folder}/{name}")
            found |= {f"{name}/": what}
            found |= {f"{name}/{path}": one for path, one in below.items()}
        else:
            found[name] = what
    return found


def why_foreign(folder: str, found: dict[str, str], is_ours: IsOurs) -> str | None:
    """Return in words what of a folder is not ours; None where all of it is.

    Args:
      folder: what the words begin with.
      found: what lies there, see `tree`.
      is_ours: of a relative path; a folder's ends in a slash.
    """
    for path, what in found.items():
        if what not in (FILE, FOLDER):
            return f"{folder}/{path} is a {what}"
        if not is_ours(path):
            return f"{folder}/{path} was not written here"
    return None


def remove_folder(folder: str, is_ours: IsOurs) -> str | None:
    """Remove a folder if it is one, and all in it is ours; else remove nothing at all.

    Args:
      folder: it need not exist.
      is_ours: of a relative path; a folder's ends in a slash.

    Returns:
      In words what is not ours; None where the folder is gone.

    Raises:
      OSError: something cannot be removed, such as what has just come there.
    """
    what = kind(folder)
    if what is None:
        return None
    if what != FOLDER:
        return f"{folder} is a {what}"
    found = tree(folder)
    if why := why_foreign(folder, found, is_ours):
        return why
    for path, kind_of_path in reversed(found.items()):
        _remove(f"{folder}/{path}", kind_of_path)
    _remove(folder, FOLDER)
    return None


def _remove(path: str, what: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        (os.rmdir if what == FOLDER else os.unlink)(path)


def exchange(one: str, other: str) -> bool:
    """Exchange the names of two folders in one step, so that neither is ever missing.

    Returns:
      Whether they were; not where the system knows no such step.

    Raises:
      OSError: it knows it, and refuses.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # Python has none
    except (AttributeError, OSError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if not renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), one, None, other)


def remove_stale(folder: Path, of: IsOurs, seconds: float = STALE_SECONDS) -> None:
    """Remove what writers that were killed have left in a folder.

    Args:
      folder: those below it are not searched; it need not exist.
      of: tells of a name whether a file of ours was to get it.
      seconds: by the clock of the disk against that of this machine.
    """

    def is_ours(name: str) -> object:
        staging = STAGING.fullmatch(name)
        return staging and of(staging["name"])

    remove_older(folder, is_ours, seconds)


def remove_older(folder: Path, is_ours: IsOurs, seconds: float) -> None:
    """Remove the files of a folder that nobody has touched for so long.

    Arguments are those of `remove_stale`, but for `is_ours`, of the names themselves.
    What is no regular file stays.
    """
    before = time.time() - seconds
    names = os.listdir(folder) if folder.is_dir() else []
    for path in (folder / name for name in names if is_ours(name)):
        # Another process was faster, or it is another user's.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if kind(path) == FILE and path.stat().st_mtime < before:
                path.unlink()
