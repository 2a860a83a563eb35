"""Photos the right way up in the graph: as Pillow turns them, to the bit."""

import functools
import io
import itertools
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from input_pipeline import preprocess
from input_pipeline.images import exif, orientation

# Odd and even, on the long and on the short side, and a square: of some the central
# window has one pixel more on one side.
SIZES = ((23, 41), (40, 29), (31, 31), (2, 9))
SIDE = 16  # of the evaluation's image


@functools.cache
def compiled(function):
    return tf.function(
        function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
    )


def read(data: bytes) -> int:
    return int(compiled(orientation.orientation)(tf.constant(data)))


@functools.cache
def seen(crop):
    return compiled(lambda data: preprocess.eval_image(data, SIDE, decode=crop))


def picture(height: int, width: int) -> np.ndarray:
    random = np.random.RandomState(height * width)
    return random.randint(0, 256, (height, width, 3)).astype(np.uint8)


def saved(pixels: np.ndarray, form: str, tag: int | None) -> bytes:
    output, tags = io.BytesIO(), Image.Exif()
    tags[0x010F] = "a maker, before it in the directory"
    if tag is not None:
        tags[0x0112] = tag
    # No chroma subsampling: a window of such a JPEG has the pixels of the whole.
    options = {"subsampling": 0} if form == "JPEG" else {}
    Image.fromarray(pixels).save(output, form, exif=tags, **options)
    return output.getvalue()


def turned(data: bytes, tag: int | None) -> bytes:
    """Turn what TensorFlow decodes by Pillow; a PNG without a tag."""
    pixels = tf.io.decode_image(data, channels=3).numpy()
    with_tag = Image.open(io.BytesIO(saved(pixels, "PNG", tag)))
    output = io.BytesIO()
    Image.fromarray(np.asarray(ImageOps.exif_transpose(with_tag))).save(output, "PNG")
    return output.getvalue()


@pytest.mark.long
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("tag", [None, *range(1, 9)])
def test_it_is_what_pillow_turns(form, tag):
    """Window, turn and resize: exact, as no pixel is computed before the resize."""
    upright, plain = seen(orientation.cropped_upright), seen(preprocess.cropped)
    for height, width in SIZES:
        data = saved(picture(height, width), form, tag)
        want = plain(tf.constant(turned(data, tag)))
        np.testing.assert_array_equal(upright(tf.constant(data)), want)
        if tag in (None, 1):
            np.testing.assert_array_equal(plain(tf.constant(data)), want)
        elif height > 2:  # of two rows, one is seen
            assert (plain(tf.constant(data)).numpy() != want.numpy()).any()


def test_a_record_is_seen_as_it_is_stored():
    """Without its tag: to the bit, by the signature that turns files."""
    for form, tag in itertools.product(("JPEG", "PNG"), (None, *range(1, 9))):
        data = saved(picture(23, 41), form, tag)
        bare = exif.without_orientation(data)
        assert len(bare) == len(data)
        assert read(bare) == exif.orientation(bare) == 1
        assert (bare == data) == (tag in (None, 1))
        Image.open(io.BytesIO(bare)).verify()  # checksums of a PNG
        np.testing.assert_array_equal(
            seen(orientation.cropped_upright)(tf.constant(bare)),
            seen(preprocess.cropped)(tf.constant(data)),
        )


def segment(block: bytes, marker: int = exif.APP1) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(block) + 2) + block


def entry(order: str, tag: int, kind: int, value: int, form: str = "HH") -> bytes:
    values = (value, 0) if form == "HH" else (value,)
    return struct.pack(f"{order}HHI{form}", tag, kind, 1, *values)


def block(order: str, *entries: bytes, place: int = 8, told: int | None = None):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = len(entries) if told is None else told
    head = mark + struct.pack(f"{order}I", place)
    return exif.MAGIC + head + struct.pack(f"{order}H", count) + b"".join(entries)


MAKER = entry("<", 0x010F, 2, 7)
SIX = block("<", MAKER, entry("<", exif.TAG, 3, 6))
XMP = segment(b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>3</tiff:Orientation>")
APP0 = segment(b"JFIF\0\1\1\0\0\1\0\1\0\0", 0xE0)


def headed(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments)


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(name: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return struct.pack(">I", length) + name + content + b"crc?"


HEADERS = {
    "little-endian": (headed(segment(SIX)), 6),
    "big-endian": (headed(segment(block(">", entry(">", 0x0112, 3, 8)))), 8),
    "LONG": (headed(segment(block("<", entry("<", 0x0112, 4, 5, "I")))), 5),
    "LONG of more than 16 bits": (
        headed(segment(block("<", entry("<", 0x0112, 4, 65541, "I")))),
        1,
    ),
    "BYTE": (headed(segment(block("<", entry("<", 0x0112, 1, 6)))), 1),
    "nine": (headed(segment(block("<", entry("<", 0x0112, 3, 9)))), 1),
    "zero": (headed(segment(block("<", entry("<", 0x0112, 3, 0)))), 1),
    "twice in a directory": (
        headed(segment(block("<", entry("<", 0x0112, 3, 3), entry("<", 0x0112, 3, 6)))),
        3,
    ),
    "no entry": (headed(segment(block("<"))), 1),
    "another tag": (headed(segment(block("<", MAKER))), 1),
    "fewer entries than told": (headed(segment(block("<", MAKER, told=999))), 1),
    "more entries than told": (
        headed(segment(block("<", MAKER, entry("<", 0x0112, 3, 6), told=1))),
        1,
    ),
    "a directory behind the end": (headed(segment(block("<", place=2**31))), 1),
    "behind JFIF and XMP": (headed(APP0, XMP, segment(SIX)), 6),
    "behind a comment and a byte to fill up": (
        headed(segment(b"ab", 0xFE), b"\xff" + segment(SIX)),
        6,
    ),
    "the first of two": (
        headed(segment(SIX), segment(block("<", entry("<", 0x0112, 3, 3)))),
        6,
    ),
    "a first that says nothing": (headed(segment(block("<")), segment(SIX)), 1),
    "behind the scan": (headed(segment(b"", 0xDA), segment(SIX)), 1),
    "behind the end": (headed(b"\xff\xd9", segment(SIX)), 1),
    "behind what is no marker": (headed(b"\0\0", segment(SIX)), 1),
    "a length that lies beyond the file": (
        headed(b"\xff\xe1\xff\xff" + SIX),
        6,
    ),
    "a length of nothing": (headed(b"\xff\xe1\0\0" + SIX), 1),
    "cut off": (headed(segment(SIX))[:-7], 1),
    "no order of bytes": (headed(segment(exif.MAGIC + b"XX*\0" + SIX[10:])), 1),
    "too many segments": (
        headed(segment(b"", 0xFE) * exif.MOST_PARTS + segment(SIX)),
        1,
    ),
    "a PNG's": (png(chunk(b"IHDR", b"?" * 13), chunk(b"eXIf", SIX[6:])), 6),
    "a PNG's, behind its pixels": (png(chunk(b"IDAT", b"12"), chunk(b"eXIf", SIX)), 6),
    "a PNG's, cut off": (png(chunk(b"eXIf", SIX[6:], length=2**32 - 1)), 6),
    "a PNG's of four gigabytes before": (
        png(chunk(b"IDAT", length=2**32 - 1), chunk(b"eXIf", SIX[6:])),
        1,
    ),
    "no image": (b"\x88PNG\r\n\x1a\n" + chunk(b"eXIf", SIX[6:]), 1),
    "nothing": (b"", 1),
    "a beginning": (b"\xff\xd8\xff", 1),
}


@pytest.mark.parametrize("name", HEADERS)
def test_what_the_headers_say(name):
    data, want = HEADERS[name]
    assert exif.orientation(data) == read(data) == want


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_headers_of_any_bytes_read_alike(form):
    """In Python and in the graph: all beginnings, and every byte another."""
    data = saved(picture(4, 5), form, 6)
    end = data.index({"JPEG": b"Exif", "PNG": b"eXIf"}[form]) + 80
    others = [data[:end] for end in range(end)]
    for place in range(2, end):
        for value in (0, 1, 4, 128, 255, exif.SCAN):
            others.append(data[:place] + bytes([value]) + data[place + 1 :])
    assert [read(one) for one in others] == [exif.orientation(one) for one in others]
