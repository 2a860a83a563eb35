"""The orientation that EXIF gives a photo, read from its first headers alone."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from input_pipeline.image_formats import JPEG, PNG

UPRIGHT = 1
ON_THEIR_SIDE = (5, 6, 7, 8)  # height and width change places
_ORIENTATIONS = range(1, 9)
TAG = 0x0112
SHORT, LONG = 3, 4  # as EXIF wants it, and as some write it
_FORMS = {SHORT: "H", LONG: "I"}
MAGIC = b"Exif\0\0"  # before the TIFF structure; WebPs may have it, PNGs have not
APP1, SCAN, END = 0xE1, 0xDA, 0xD9
MOST_TAGS = 1000  # of one directory; cameras write twenty
# Segments of a JPEG and chunks of a PNG that are looked at, so that a file made of
# nothing else takes no time. Cameras write a dozen; a PNG's pixels may take thousands,
# but its EXIF is to be found before them by most programs' making.
MOST_PARTS = 1000


class _Note(NamedTuple):
    """What EXIF says: a value from 1 to 8, where it lies, and its form for struct."""

    orientation: int
    place: int
    form: str


def orientation(data: bytes) -> int:
    """Return how a photo is to be turned, 1 to 8; 1, upright, where nothing says it.

    Args:
      data: a file. JPEG, PNG and WebP carry the tag, the first EXIF in them counts. A
        TIFF has one of its own, by which Pillow turns it; others have none.
    """
    for begin, end in _structures(data):
        note = _read(data, begin, end)
        return note.orientation if note else UPRIGHT
    return UPRIGHT


def without_orientation(data: bytes) -> bytes:
    """Return the same image with a tag that says upright, if there is one at all.

    So a record is seen as it is stored by what turns files. Nothing else is changed,
    but for the checksum of a PNG's chunk.
    """
    for begin, end in _structures(data):
        note = _read(data, begin, end)
        if note is None or note.orientation == UPRIGHT:
            return data
        changed = bytearray(data)
        struct.pack_into(note.form, changed, note.place, UPRIGHT)
        if data.startswith(PNG) and end + 4 <= len(data):
            struct.pack_into(">I", changed, end, zlib.crc32(changed[begin - 4 : end]))
        return bytes(changed)
    return data


def _structures(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the blocks of EXIF; the file may end before them."""
    if data.startswith(JPEG):
        return _of_jpeg(data)
    if data.startswith(PNG):
        return _chunks(data, len(PNG), ">I4s", b"eXIf", behind=4)  # its CRC
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        # The chunk's name comes first there.
        return _chunks(data, 12, "<4sI", b"EXIF", behind=0)
    return iter(())


def _of_jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    place = 2
    for _ in range(MOST_PARTS):
        if place + 4 > len(data) or data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker == 0xFF:  # a byte to fill up
            place += 1
            continue
        if marker in (SCAN, END):
            return
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == APP1 and data.startswith(MAGIC, place + 4):
            yield place + 4, end
        place = end


def _chunks(
    data: bytes, place: int, header: str, wanted: bytes, *, behind: int
) -> Iterator[tuple[int, int]]:
    for _ in range(MOST_PARTS):
        if place + 8 > len(data):
            return
        first, second = struct.unpack_from(header, data, place)
        name, length = (first, second) if header[0] == "<" else (second, first)
        if name == wanted:
            yield place + 8, place + 8 + length
        place += 8 + length + behind
        place += (length % 2) * (header[0] == "<")  # RIFF's are of even length


def _read(data: bytes, begin: int, end: int) -> _Note | None:
    """Read the first directory of a TIFF structure; None of a damaged one."""
    block = data[begin:end]
    tiff = block.removeprefix(MAGIC)
    begin += len(block) - len(tiff)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    (place,) = struct.unpack_from(f"{order}I", tiff, 4)
    if place + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, place)
    for entry in range(min(count, MOST_TAGS)):
        there = place + 2 + 12 * entry
        if there + 12 > len(tiff):
            return None
        tag, kind = struct.unpack_from(f"{order}HH", tiff, there)
        if tag == TAG:
            return _note(tiff, there + 8, order + _FORMS.get(kind, ""), begin)
    return None


def _note(tiff: bytes, place: int, form: str, begin: int) -> _Note | None:
    """Read the value of the tag; None of another type, or of a number that is none."""
    value = struct.unpack_from(form, tiff, place)
    if not value or value[0] not in _ORIENTATIONS:
        return None
    return _Note(value[0], begin + place, form)
