"""Small images of all kinds that people have, made here: no file is needed."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6  # colour types of PNG
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4))
_ADAM7 += ((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, and their steps
_FTYP = b"\0\0\0\x18ftyp%s\0\0\0\0" + bytes(40)


class ImageKind(NamedTuple):
    """A kind of image.

    Attributes:
      name: for people.
      encoded: a file of it.
      read: "everywhere", "files" alone, by prepare and classify, or "nowhere".
    """

    name: str
    encoded: bytes
    read: str


def picture() -> Image.Image:
    """Return ramps of colour, which a JPEG keeps well."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([x * 4, y * 5, x + y], -1).astype(np.uint8))


def kinds() -> list[ImageKind]:
    """Return one image of each kind."""
    found = [ImageKind(*one, "everywhere") for one in (*_jpegs(), *_pngs())]
    found += [ImageKind(*one, "files") for one in _files()]
    return found + [ImageKind(*one, "nowhere") for one in _nowhere()]


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return the bytes of a file that Pillow writes."""
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def _oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _jpegs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    cmyk = encode(rgb.convert("CMYK"), "JPEG", quality=95)
    transform = cmyk.index(b"Adobe") + 11
    yield "JPEG, grey", encode(rgb.convert("L"), "JPEG")
    yield "JPEG, RGB", encode(rgb, "JPEG")
    yield "JPEG, RGB by Adobe's marker", encode(rgb, "JPEG", keep_rgb=True)
    yield "JPEG, progressive", encode(rgb, "JPEG", progressive=True)
    yield "JPEG, CMYK", cmyk
    segment = cmyk.index(b"Adobe") - 4  # the marker, and its length of 14 bytes
    unmarked = rgb.convert("CMYK").point(lambda value: 255 - value)
    unmarked = encode(unmarked, "JPEG", quality=95)
    unmarked = unmarked[:segment] + unmarked[segment + 16 :]
    yield "JPEG, CMYK without Adobe's marker", unmarked
    yield "JPEG, YCCK", cmyk[:transform] + b"\2" + cmyk[transform + 1 :]
    yield "JPEG, one pixel", encode(rgb.crop((0, 0, 1, 1)), "JPEG")
    for turn in range(2, 9):
        yield (
            f"JPEG, EXIF orientation {turn}",
            encode(rgb, "JPEG", exif=_oriented(turn)),
        )


def _pngs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    pixels = np.asarray(rgb)
    alpha = np.dstack([pixels, pixels[:, :, :1]])
    grey = pixels[:, :, 1]
    for bits in (1, 2, 4):
        yield f"PNG, grey of {bits} bits", _png(grey >> (8 - bits), bits, _GREY)
    yield "PNG, grey", encode(rgb.convert("L"), "PNG")
    yield "PNG, grey of 16 bits", _png(grey.astype(">u2") * 257, 16, _GREY)
    yield "PNG, grey and alpha", encode(Image.fromarray(alpha).convert("LA"), "PNG")
    both = np.dstack([grey, grey]).astype(">u2") * 257
    yield "PNG, grey and alpha of 16 bits", _png(both, 16, _GREY_ALPHA)
    yield "PNG, RGB", encode(rgb, "PNG")
    yield "PNG, RGB of 16 bits", _png(pixels.astype(">u2") * 257, 16, _RGB)
    for name, deep, color in (("grey", grey, _GREY), ("RGB", pixels, _RGB)):
        keyed = deep.astype(">u2") * 257
        keyed[:16, :16] = key = 0x1234
        data = _png(keyed, 16, color, key=(key,) * keyed[0, 0].size)
        yield f"PNG, {name} of 16 bits and a transparent colour", data
    yield "PNG, RGB and alpha", encode(Image.fromarray(alpha), "PNG")
    yield "PNG, RGB and alpha of 16 bits", _png(alpha.astype(">u2") * 257, 16, _RGBA)
    palette = rgb.quantize(200)
    yield "PNG, palette", encode(palette, "PNG")
    yield "PNG, palette of 4 bits", encode(rgb.quantize(16), "PNG")
    transparent = encode(palette, "PNG", transparency=bytes(range(200)))
    yield "PNG, palette and transparency", transparent
    yield "PNG, interlaced", _png(pixels, 8, _RGB, interlaced=True)
    frames = {"save_all": True, "append_images": [rgb.rotate(180)]}
    yield "PNG, animated", encode(rgb, "PNG", **frames)
    yield "PNG, EXIF orientation 6", encode(rgb, "PNG", exif=_oriented(6))
    yield "PNG, one pixel", encode(rgb.crop((0, 0, 1, 1)), "PNG")


def _files() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    alpha = Image.fromarray(np.dstack([np.asarray(rgb), np.asarray(rgb)[:, :, :1]]))
    frames = {"save_all": True, "append_images": [rgb.rotate(180)]}
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    yield "BMP, RGB", encode(rgb, "BMP")
    yield "BMP, palette", encode(rgb.quantize(200), "BMP")
    yield "GIF", encode(rgb, "GIF")
    yield "GIF, animated", encode(rgb, "GIF", **frames)
    yield "WebP", encode(rgb, "WEBP", quality=95)
    yield "WebP, lossless", encode(rgb, "WEBP", lossless=True)
    yield "WebP, alpha", encode(alpha, "WEBP", lossless=True, exact=True)
    yield "WebP, animated", encode(rgb, "WEBP", lossless=True, **frames)
    yield "WebP, EXIF orientation 6", encode(rgb, "WEBP", exif=_oriented(6))
    yield "TIFF, RGB", encode(rgb, "TIFF")
    yield "TIFF, LZW", encode(rgb, "TIFF", compression="tiff_lzw")
    yield "TIFF, grey of 16 bits", encode(grey16, "TIFF")
    yield "TIFF, pages", encode(rgb, "TIFF", **frames)
    yield "PPM", encode(rgb, "PPM")
    yield "PGM", encode(rgb.convert("L"), "PPM")


def _nowhere() -> Iterator[tuple[str, bytes]]:
    jpeg = encode(picture(), "JPEG")
    size = jpeg.index(b"\xff\xc0") + 5
    yield "JPEG, huge header", jpeg[:size] + b"\x4e\x20" * 2 + jpeg[size + 4 :]
    png = encode(picture(), "PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + png[24:29]
    crc = struct.pack(">I", zlib.crc32(header))
    yield "PNG, huge header", png[:12] + header + crc + png[33:]
    yield "HEIC", _FTYP % b"heic"
    yield "AVIF", _FTYP % b"avif"
    yield "JPEG XL", b"\xff\x0a" + bytes(60)
    yield "JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)
    yield "SVG", b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "PSD", b"8BPS\0\1" + bytes(60)
    yield "web page", b"<!DOCTYPE html><html><body>404</body></html>" + bytes(20)


def _png(
    pixels: np.ndarray,
    bits: int,
    color: int,
    *,
    interlaced: bool = False,
    key: tuple[int, ...] = (),
) -> bytes:
    """Write a PNG that Pillow does not: of any depth, interlaced, or without a colour.

    Args:
      pixels: as they are packed, [HEIGHT, WIDTH] or [HEIGHT, WIDTH, channels].
      bits: of a channel.
      color: one of PNG's types.
      interlaced: whether it is.
      key: the channels of the one colour that is transparent; none if empty.
    """
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color, 0, 0, interlaced)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"\0" + _packed(row, bits)
        for x, y, dx, dy in passes
        for row in pixels[y::dy, x::dx]
    )
    chunks = {b"IHDR": header}
    if key:
        chunks[b"tRNS"] = struct.pack(f">{len(key)}H", *key)
    chunks |= {b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def _packed(row: np.ndarray, bits: int) -> bytes:
    if bits >= 8:
        return row.tobytes()
    each = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(each).tobytes()
