"""What libjpeg says of a JPEG that it decodes all the same.

Where data are missing or do not make sense it fills the image with grey, or with
colours by chance, and writes one line to standard error that names no file. TensorFlow
hands on no count of these lines, so they are caught where they are written.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

Result = TypeVar("Result")

_STDERR = 2
# Not before one that restarts the decoder: there they are data that it has lost.
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0x(?!d[0-7])")
_HARMLESS = re.compile(
    r"Warning: unknown JFIF revision number.*|Unknown Adobe color transform code.*"
    r"|Invalid SOS parameters for sequential JPEG"
)
_DAMAGE = re.compile(
    r"Corrupt JPEG data: .*|Premature end of JPEG file"
    r"|Inconsistent progression sequence.*"
)
# More bytes behind the image than a careless writer leaves there are the rest of an
# image in which the decoder has lost its way.
_FEW_BYTES = 64
_PADDING = {0x00, 0xFF}


# Odd headers that it complains of and reads all the same; what is in order behind the
# group.
_ODD_HEADERS = {
    rb"(\xff\xe0..JFIF\x00)..": b"\x01\x01",
    rb"(\xff\xee..Adobe.{6}).": b"\x00",
    # Of the scan of a JPEG that is not progressive.
    rb"(\xff[\xc0\xc1]\0.*?\xff\xda\0.(?:\x01..|\x03.{6}|\x04.{8}))...": b"\0\x3f\0",
}
_MARKER = re.compile(rb"\xff+([^\0\xff])", re.DOTALL)
_SCAN = b"\xda"


class Complaint(NamedTuple):
    """One line of libjpeg's.

    Attributes:
      text: the line.
      is_damage: whether pixels are made up; else all of the image is read.
    """

    text: str
    is_damage: bool


def decode(encoded: bytes, *, ratio: int = 1, grey: bool = False) -> Complaint | None:
    """Decode all of a JPEG with the decoder of training; return what libjpeg says.

    Only in a process in which no other thread writes to standard error: what is written
    meanwhile is lost.

    Args:
      encoded: the file.
      ratio: 1, 2, 4 or 8; to make a smaller image is quicker, and reads as much.
      grey: whether to make a grey one of RGB, which is quicker, and reads as much, too.

    Raises:
      InvalidArgumentError: it cannot be decoded.
    """
    channels = 1 if grey else 3

    def decoded(data: bytes) -> Complaint | None:
        said, _ = listen(lambda: tf.io.decode_jpeg(data, channels, ratio))
        return complaint(said, data)

    first = decoded(encoded)
    if first is None or first.is_damage:
        return first
    # libjpeg is silent behind its first line, and that one may be a harmless one.
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        second = decoded(_tidied(encoded))
        return second if second and second.is_damage else first
    return first


def silent(images: Sequence[bytes | tf.Tensor]) -> list[bool]:
    """Tell of which JPEGs `decode`, at a ratio of 8 and grey, says nothing.

    That is most of them, and the others are for `decode` itself. A decoder that is
    called many times in a row takes a tenth less time than between other work.

    Only in such a process as `decode`.
    """
    heard, found = _memory(), []
    with _standard_error_to(heard):
        for image in images:
            before = os.lseek(heard, 0, os.SEEK_CUR)
            try:
                # Python calls the op itself with a tensor and a float, which 1 is not;
                # tf.io.decode_jpeg has it convert all arguments, time and again.
                tf.raw_ops.DecodeJpeg(
                    contents=tf.convert_to_tensor(image),
                    channels=1,
                    ratio=8,
                    acceptable_fraction=1.0,
                )
            except tf.errors.InvalidArgumentError:
                found.append(False)
            else:
                found.append(os.lseek(heard, 0, os.SEEK_CUR) == before)
    return found


def _tidied(encoded: bytes) -> bytes:
    """Return a JPEG without odd headers, and without stray bytes before its scan."""
    for odd, in_order in _ODD_HEADERS.items():
        if found := re.search(odd, encoded, re.DOTALL):
            rest = encoded[found.end() :]
            encoded = encoded[: found.end(1)] + in_order + rest
    parts, place = [encoded[:2]], 2
    while found := _MARKER.search(encoded, place):
        place = found.end() + int.from_bytes(encoded[found.end() : found.end() + 2])
        parts.append(encoded[found.start() : place])
        if found[1] == _SCAN:
            break
    return b"".join([*parts, encoded[place:]])


def listen(function: Callable[[], Result]) -> tuple[str, Result]:
    """Call a function; return what was written to standard error, and its result."""
    heard = _memory()
    with _standard_error_to(heard):
        result = function()
    size = os.fstat(heard).st_size
    return os.pread(heard, size, 0).decode(errors="replace") if size else "", result


@functools.cache
def _memory() -> int:
    """Return a file in memory, of this process."""
    return os.memfd_create("libjpeg")


@contextlib.contextmanager
def _standard_error_to(file: int) -> Iterator[None]:
    """Let what C writes to standard error go to an emptied file."""
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    before = _duplicate(_STDERR)
    os.dup2(file, _STDERR)
    try:
        yield
    finally:
        if before is None:
            os.close(_STDERR)
        else:
            os.dup2(before, _STDERR)
            os.close(before)


def _duplicate(descriptor: int) -> int | None:
    """Return a second descriptor of a file, None of one that is closed."""
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def may_be_damage(said: str) -> bool:
    """Whether libjpeg has complained of one of the images that were decoded."""
    return any(_DAMAGE.fullmatch(line.strip()) for line in said.splitlines())


def complaint(said: str, encoded: bytes) -> Complaint | None:
    """Return what libjpeg has said of one JPEG, by what `listen` has heard."""
    lines = [line.strip() for line in said.splitlines()]
    damage = [line for line in lines if _DAMAGE.fullmatch(line)]
    for line in damage:
        if not _is_padding(line, encoded):
            return Complaint(line, is_damage=True)
    harmless = damage + [line for line in lines if _HARMLESS.fullmatch(line)]
    return Complaint(harmless[0], is_damage=False) if harmless else None


def _is_padding(line: str, encoded: bytes) -> bool:
    """Whether a line speaks of bytes before a marker that are no image data."""
    stray = _STRAY.search(line)
    if stray is None:
        return False
    count = int(stray[1])
    # Phones write further images and films behind the first, each with its own end.
    ends = (found.start() for found in re.finditer(b"\xff\xd9", encoded))
    return count <= _FEW_BYTES or any(
        set(encoded[end - count : end]) <= _PADDING for end in ends if end >= count
    )
