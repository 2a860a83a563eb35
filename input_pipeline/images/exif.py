"""The orientation that EXIF gives a photo, read from its first headers alone."""

import struct
from collections.abc import Iterator

from input_pipeline.image_formats import JPEG, PNG

UPRIGHT = 1
ON_THEIR_SIDE = (5, 6, 7, 8)  # height and width change places
_ORIENTATIONS = range(1, 9)
_TAG = 0x0112
_TYPES = {3: "H", 4: "I"}  # SHORT, as EXIF wants it, and LONG, as some write it
_EXIF = b"Exif\0\0"  # before the TIFF structure; WebPs may have it, PNGs have not
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_MOST_TAGS = 1000  # of one directory; cameras write twenty


def orientation(data: bytes) -> int:
    """Return how a photo is to be turned, 1 to 8; 1, upright, where nothing says it.

    Args:
      data: a file. JPEG, PNG and WebP carry the tag. A TIFF has one of its own, by
        which Pillow turns it; others have none.
    """
    for tiff in _structures(data):
        return _of(tiff.removeprefix(_EXIF))
    return UPRIGHT


def _structures(data: bytes) -> Iterator[bytes]:
    """Yield the blocks of EXIF in a file."""
    if data.startswith(JPEG):
        return _of_jpeg(data)
    if data.startswith(PNG):
        return _chunks(data, len(PNG), ">I4s", b"eXIf", behind=4)  # its CRC
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        # The chunk's name comes first there.
        return _chunks(data, 12, "<4sI", b"EXIF", behind=0)
    return iter(())


def _of_jpeg(data: bytes) -> Iterator[bytes]:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a byte to fill up
            place += 1
            continue
        if marker in (_SCAN, _END):
            return
        length = int.from_bytes(data[place + 2 : place + 4])
        begin = place + 4
        if marker == _APP1 and data.startswith(_EXIF, begin):
            yield data[begin : place + 2 + length]
        place += 2 + length


def _chunks(
    data: bytes, place: int, header: str, wanted: bytes, *, behind: int
) -> Iterator[bytes]:
    while place + 8 <= len(data):
        first, second = struct.unpack_from(header, data, place)
        name, length = (first, second) if header[0] == "<" else (second, first)
        if name == wanted:
            yield data[place + 8 : place + 8 + length]
        place += 8 + length + behind
        place += (length % 2) * (header[0] == "<")  # RIFF's are of even length


def _of(tiff: bytes) -> int:
    """Return what the first directory of a TIFF structure says; 1 if it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (place,) = struct.unpack_from(f"{order}I", tiff, 4)
    if place + 2 > len(tiff):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, place)
    for entry in range(min(count, _MOST_TAGS)):
        begin = place + 2 + 12 * entry
        if begin + 12 > len(tiff):
            return UPRIGHT
        tag, kind = struct.unpack_from(f"{order}HH", tiff, begin)
        if tag == _TAG:
            form = _TYPES.get(kind, "x")
            value = struct.unpack_from(order + form, tiff, begin + 8)
            return value[0] if value and value[0] in _ORIENTATIONS else UPRIGHT
    return UPRIGHT
