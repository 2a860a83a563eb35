"""Formats of images, told by the first bytes of a file or by its name."""

import re

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

# How files of images are named: of formats that Pillow and training read, and others.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm"),
)
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".tga", ".psd", ".ico")

_HEAD = 512  # bytes that are looked at
_FORMATS = {
    re.compile(pattern, re.DOTALL): name
    for pattern, name in {
        re.escape(JPEG): "a JPEG",
        re.escape(PNG) + rb"....CgBI": "a PNG of Apple's own kind",
        re.escape(PNG): "a PNG",
        rb"RIFF....WEBP": "a WebP",
        rb"GIF8[79]a": "a GIF",
        rb"BM.{4}\0{4}": "a BMP",
        rb"II\*\0|MM\0\*": "a TIFF",
        rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)": "a HEIC",
        rb"....ftypavi[fs]": "an AVIF",
        rb"....ftyp": "an MP4 or another film",
        rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000",
        rb"\0\0\0\x0cJXL |\xff\x0a": "a JPEG XL",
        rb"\x00\x00\x01\x00": "an ICO",
        rb"P[1-6]\s+(#[^\n]*\n\s*)*\d|P7\s+(#[^\n]*\n\s*)*WIDTH": "a PNM",
        rb"8BPS": "a PSD",
        rb"\s*<svg|\s*<\?xml[^\0]*<svg": "an SVG",
        rb"/9j/": "a JPEG in base64",
        rb"iVBORw0KGgo": "a PNG in base64",
    }.items()
}


def describe(data: bytes) -> str | None:
    """Return "a PNG", "an SVG" or the like; None of what is no image known here."""
    head = data[:_HEAD]
    return next((name for one, name in _FORMATS.items() if one.match(head)), None)
