"""Whether a PNG is whole, by its checksums: without decoding it."""

import struct
import zlib

from input_pipeline.image_formats import PNG

_HEADER = struct.Struct(">I4s")  # of a chunk: its length and its name
_CRC = struct.Struct(">I")
_LAST = b"IEND"


def is_sound(data: bytes) -> bool:
    """Whether all chunks of a PNG are there, with the checksums that libpng asks for.

    Pillow asks less: it reads pixels that training's decoder refuses. As libpng does,
    this passes over chunks whose names say by a small letter that no pixel needs them.
    """
    place = len(PNG)
    while place + _HEADER.size <= len(data):
        length, name = _HEADER.unpack_from(data, place)
        end = place + _HEADER.size + length
        if end + _CRC.size > len(data):
            return False
        needed = name[:1].isupper()
        if needed and _CRC.unpack_from(data, end)[0] != zlib.crc32(
            memoryview(data)[place + 4 : end]
        ):
            return False
        if name == _LAST:
            return True
        place = end + _CRC.size
    return False
