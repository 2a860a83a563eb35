import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline.images import exif
from input_pipeline.preparation.jpeg import to_rgb_jpeg

PICTURE = Image.fromarray(
    np.random.RandomState(0).randint(0, 256, (24, 40, 3)).astype(np.uint8)
)


def saved(form: str, orientation: int | None, mode: str = "RGB") -> bytes:
    output, tags = io.BytesIO(), Image.Exif()
    tags[0x010F] = "a maker, before it in the directory"
    if orientation is not None:
        tags[0x0112] = orientation
    PICTURE.convert(mode).save(output, form, exif=tags)
    return output.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_what_pillow_writes(form):
    for orientation in range(1, 9):
        assert exif.orientation(saved(form, orientation)) == orientation
    for nothing in (None, 0, 9):
        assert exif.orientation(saved(form, nothing)) == 1


def test_headers_of_any_bytes():
    """Every beginning of a file, and every byte of its EXIF another: no error."""
    data = saved("JPEG", 6)
    begin = data.index(b"Exif")
    for end in range(begin + 80):
        assert exif.orientation(data[:end]) in range(1, 9)
    for place in range(2, begin + 80):
        for value in (0, 1, 255):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            assert exif.orientation(changed) in range(1, 9)


def test_other_files_are_upright():
    for form in ("GIF", "BMP", "TIFF", "PPM"):
        assert exif.orientation(saved(form, 6)) == 1
    assert exif.orientation(b"") == 1


def test_little_endian_and_bytes_to_fill_up():
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 8, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    block = b"Exif\0\0" + tiff
    segment = b"\xff\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    assert exif.orientation(b"\xff\xd8\xff\xfe\0\4ab" + segment) == 8
    # Not an image's own: it comes behind the scan.
    assert exif.orientation(b"\xff\xd8\xff\xda\0\2" + segment) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_to_turn_is_to_save_what_pillow_turns(orientation):
    """To the byte; upright images are not touched, and the tag is gone."""
    for form, mode in (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("WEBP", "RGB")):
        data = saved(form, orientation, mode)
        plain, turned = to_rgb_jpeg(data), to_rgb_jpeg(data, apply_orientation=True)
        assert plain.orientation == turned.orientation == orientation
        if orientation == 1:
            assert turned == plain
            continue
        output = io.BytesIO()
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        image.save(output, "JPEG", quality=95, subsampling=0)
        assert turned.encoded == output.getvalue()
        assert (turned.width, turned.height) == image.size
        assert exif.orientation(turned.encoded) == 1
        assert plain == to_rgb_jpeg(data)
        assert (plain.encoded == data) == (form == "JPEG" and mode == "RGB")
