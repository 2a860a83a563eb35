"""What an error of a disk or a bucket means to a person and to a supervisor.

TensorFlow's client of a bucket tries ten times before it gives up. What it raises then
is no mistake of anybody's: the same command goes on later, so it is a `Restart`. A
bucket that refuses, or is not there, is one, and so is a full disk: a `UserError`. The
storage's own words are cut down to a line.
"""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from enum import IntEnum

from common import gcs
from common.errors import Restart, UserError, one_line


class Code(IntEnum):
    """The codes of TensorFlow's errors that this asks for; those of gRPC."""

    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# Of whatever is read: a storage that does not answer tells nothing about what it holds.
_BUSY = {
    Code.CANCELLED,
    Code.UNKNOWN,
    Code.DEADLINE_EXCEEDED,
    Code.RESOURCE_EXHAUSTED,
    Code.ABORTED,
    Code.UNAVAILABLE,
}
_DENIED = {Code.PERMISSION_DENIED, Code.UNAUTHENTICATED}
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS)
# TensorFlow has no code of its own for these; it says them as the system does.
_SPACE_WORDS = {os.strerror(number) for number in _NO_SPACE}
_SYSTEM_WORDS = {os.strerror(number) for number in errno.errorcode}

# Of TensorFlow's client of gs://. That a name has no address it does not try again.
# Readers of checkpoints pass its words on under a code of their own, or as ValueError.
# The last are of an error whose text was longer than what was to be read; nobody knows
# which: `common.gcs_reads` has it that there is room.
_GAVE_UP = re.compile(
    r"retry attempts failed|libcurl code 6 |response bytes for a \d+-byte buffer"
)
# Nobody mends these by waiting: a certificate that is not trusted, or not there.
_CERTIFICATE = re.compile(r"libcurl code (?:60|77) ")
# It collects what it sends in a file of this machine.
_STAGED = re.compile("internal temporary file")
_REFUSED = re.compile(r"HTTP response code (?:401|403|407)")
_OF_CLIENT = re.compile(
    r"Error executing an HTTP request|retry attempts failed|"
    r"File contents are inconsistent"
)
_PATH = re.compile(
    r"(?: when (?:[a-z]+ )+|for file: )([a-z]+://.+?)"
    r"(?= to [a-z]+://| @ |\s*(?:\n|\[Op:|$))"
)
_HTTP = re.compile(r"HTTP response code (\d+)")
_CURL = re.compile(
    r"libcurl code \d+ meaning '([^']*)', error details: (.*?)"
    r"(?:\s*\n?\t? when |\n|$)"
)
# Google's words in a body: JSON's, or XML's, of which the details say more.
_WORDS = re.compile(
    r'"message": *"((?:[^"\\]|\\.)*)|<Details>([^<]*)|<Message>([^<]*)(?!.*<Details>)',
    re.DOTALL,
)
_ANONYMOUS = re.compile(r"HTTP response code 401|Anonymous caller")
# What a Ctrl-C is called that has come while TensorFlow waited for a bucket in vain.
_INTERRUPTED = "REPLACED BY KeyboardInterrupt"
_TOKEN_SECONDS = 30.0  # for which the end of a command waits for a token

# By it an error from inside a graph is known that `input_pipeline.chunks` lets through.
READING = "reading__records"
_READING = re.compile(
    rf"passed to {READING} transformation with iterator: \S+ (.*)", re.DOTALL
)


def is_remote(path: str) -> bool:
    """Whether a path is in a bucket, or another storage behind a network."""
    return "://" in path.removeprefix("file://")


def is_busy(error: BaseException, path: str) -> bool:
    """Whether a storage did not answer; to be asked of what was to be read there."""
    code = getattr(error, "error_code", None)
    if _CERTIFICATE.search(str(error)):
        return False
    if code in _BUSY:
        return True
    if not is_remote(path) or _STAGED.search(str(error)):
        return False
    # INTERNAL: a stat that has just become old, an answer that the client cannot read.
    return code == Code.INTERNAL or bool(_GAVE_UP.search(str(error)))


def is_denied(error: BaseException) -> bool:
    """Whether a storage has refused."""
    code = getattr(error, "error_code", None)
    return code in _DENIED or bool(_REFUSED.search(str(error)))


def cannot_read(
    path: str,
    error: BaseException,
    *,
    what: str | None = None,
    mistake: type[UserError] = UserError,
) -> UserError | Restart:
    """Return what to raise where something cannot be read.

    Args:
      path: of what is read.
      error: OSError, or OpError of TensorFlow's.
      what: could not be done; None is "cannot read <path>".
      mistake: the room's own error.
    """
    what = what or f"cannot read {path}"
    if is_remote(path):
        return _of_bucket(path, error, what, "reads", mistake)
    said = reason(error)
    if is_busy(error, path):
        return Restart(f"{what} now: {said}")
    mend = "mend the permissions" if _may_not(error) else "look at the disk"
    if getattr(error, "error_code", None) == Code.NOT_FOUND:
        mend = "copy it there, or mend the name"
    return mistake(f"{what}: {said}; {mend}")


def cannot_write(
    path: str,
    error: BaseException,
    *,
    what: str | None = None,
    folder: str = "folder",
    mistake: type[UserError] = UserError,
) -> UserError | Restart:
    """Return what to raise where something cannot be written or removed.

    Args:
      path: of what is written.
      error: as for `cannot_read`.
      what: could not be done; None is "cannot write <path>".
      folder: that another one may be named of, as "--export_dir".
      mistake: the room's own error.
    """
    what = what or f"cannot write {path}"
    if is_remote(path):
        return _of_bucket(path, error, what, "writes", mistake)
    said, mend = reason(error), "look at the disk"
    if _is_full(error, said):
        mend = "free some space"
    elif said in _SYSTEM_WORDS - {os.strerror(errno.EIO)}:
        mend = "mend that"
    if _may_not(error):
        mend = "mend the permissions"
    return mistake(f"{what}: {said}; {mend} or name another {folder}")


def why_unreadable(path: str, error: BaseException) -> str:
    """Return why one file of several is left out, in words without its path.

    Raises:
      Restart: that is because a bucket does not answer.
    """
    if not is_remote(path) or not hasattr(error, "error_code"):
        return reason(error)
    ending = _of_bucket(path, error, "", "reads")
    if isinstance(ending, Restart):
        raise _of_bucket(path, error, f"cannot read {path}", "reads") from error
    return str(ending).removeprefix(": ")


def from_storage(error: BaseException) -> UserError | Restart | None:
    """Return what an error means that a bucket has caused anywhere in a program.

    None where it comes from somewhere else: a peer that is gone has codes of the same
    numbers.
    """
    text = str(getattr(error, "message", None) or error)
    if not hasattr(error, "error_code"):
        return None
    if let_through := _READING.search(text):
        return cannot_read(_path_in(let_through[1]), error)
    if not _OF_CLIENT.search(text) or not (found := _PATH.search(text)):
        return None
    return cannot_read(found[1], error, what=f"{found[1]} cannot be reached")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what a bucket has caused in the block into what a command ends with."""
    try:
        yield
    except Exception as error:
        if ending := from_storage(error):
            raise ending from error
        if _INTERRUPTED in str(error):
            raise KeyboardInterrupt from error
        raise


def reason(error: BaseException) -> str:
    """Return what a storage said, in one line, without the path."""
    text, line = str(getattr(error, "message", None) or error), one_line(error)
    if let_through := _READING.search(text):
        text = line = let_through[1].split("\n\t [[")[0]
    if http := _HTTP.search(text):
        said = _WORDS.search(text, http.end())
        words = next(filter(None, said.groups()), "") if said else ""
        words = " ".join(re.sub(r"\\(.)", r"\1", words).split())
        return f"HTTP {http[1]}: {words}".rstrip(": ")
    if curl := _CURL.search(text):
        details = "" if curl[2] == "(none)" else curl[2]
        return " ".join((details or curl[1]).split())
    if words := getattr(error, "strerror", None):
        return words
    line = re.sub(r" when (?:[a-z]+ )*[a-z]+://\S*$", "", line)  # the client's: where
    last = line.rpartition("; ")[2]  # what a disk says, behind the path
    return last if last in _SYSTEM_WORDS else line


def _of_bucket(
    path: str,
    error: BaseException,
    what: str,
    verb: str,
    mistake: type[UserError] = UserError,
) -> UserError | Restart:
    said, code = reason(error), getattr(error, "error_code", None)
    scheme, bucket = path.partition("://")[0], "/".join(path.split("/")[:3])
    if is_busy(error, path):
        return Restart(f"{what} now: {said}")
    mend = "look at its name, the network and the credentials"
    if machine := _of_machine(error):
        said, mend = machine
    elif is_denied(error) and _ANONYMOUS.search(str(error)):
        # A process that has once got no token asks for none again.
        if _has_credentials():
            return Restart(f"{what} now, the access token was lost: {said}")
        mend = (
            "there are no credentials: gcloud auth application-default login, or a "
            "machine with a service account"
        )
    elif is_denied(error):
        mend = (
            "the bucket refuses this account: give it a role there, as "
            f"roles/storage.objectUser on {bucket}"
        )
    elif code == Code.NOT_FOUND:
        mend = f"it is not there, or {bucket} is not: look at the name"
    elif code == Code.UNIMPLEMENTED:
        said = f"TensorFlow {verb} no {scheme}:// here"
        mend = "name a file on this machine"
        if verb == "reads":
            mend = "fetch it, and name the file on this machine"
    return mistake(f"{what}: {said}; {mend}")


def _is_full(error: BaseException, said: str) -> bool:
    if said in _SYSTEM_WORDS:
        return said in _SPACE_WORDS
    is_exhausted = getattr(error, "error_code", None) == Code.RESOURCE_EXHAUSTED
    return is_exhausted or getattr(error, "errno", None) in _NO_SPACE


def _of_machine(error: BaseException) -> tuple[str, str] | None:
    """Return what is wrong here, and how to mend it; None where it is the bucket."""
    text = str(error)
    if _STAGED.search(text):
        return (
            f"TensorFlow cannot put down in {_staging_folder()} what it sends",
            "free some space there, or set TMPDIR to a folder on another disk",
        )
    if _CERTIFICATE.search(text):
        return (
            reason(error),
            "look at the certificates that this machine trusts (CURL_CA_BUNDLE) and at "
            "its clock",
        )
    return None


def _may_not(error: BaseException) -> bool:
    return is_denied(error) or getattr(error, "errno", None) in _MAY_NOT


def _path_in(text: str) -> str:
    """Return the path that an error of reading names, in a bucket or on a disk."""
    if found := _PATH.search(text):
        return found[1].rstrip("/")
    return text.split("\n\t [[")[0].rpartition("; ")[0]


def _staging_folder() -> str:
    """Return where TensorFlow collects what it sends to a bucket."""
    named = map(os.environ.get, ("TEST_TMPDIR", "TMPDIR", "TMP"))
    return next(
        (folder for folder in named if folder and os.path.isdir(folder)), "/tmp"
    )


def _has_credentials() -> bool:
    """Whether an access token is to be had now, from where TensorFlow has its own."""
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(gcs.has_token()), daemon=True)
    asking.start()
    asking.join(_TOKEN_SECONDS)
    return bool(found and found[0])
