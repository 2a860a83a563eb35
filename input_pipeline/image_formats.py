"""Kinds of images: which are read, and where; by the first bytes of a file or its name.

IN_RECORDS is what records may hold, and what a call of a SavedModel may: training,
evaluation, validation and serving decode it by one function, `preprocess.cropped`.
IN_FILES is what files may be: `preparation.jpeg` makes JPEGs of the others, to prepare
records and to classify a file. Whoever refuses an image names it by `describe`.
"""

import re

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

# Names as `describe` has them, and Pillow's. TensorFlow reads every form of these two,
# to Pillow's pixels. Of the others it does not: it takes the indices of a BMP's palette
# for grey, refuses a WebP with alpha or frames, and knows no TIFF and no PNM.
IN_RECORDS = {"a JPEG": "JPEG", "a PNG": "PNG"}
IN_FILES = {
    **IN_RECORDS,
    "a WebP": "WEBP",
    "a BMP": "BMP",
    "a GIF": "GIF",
    "a TIFF": "TIFF",
    "a PNM": "PPM",
}

RECORDS_HOLD = "records hold JPEGs and PNGs"

# How files of images are named: of IN_FILES, and others.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm"),
)
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".tga", ".psd", ".ico")

HEAD = 512  # bytes that are looked at
# Patterns that RE2 understands, too, each of a byte as a character of Latin-1.
PATTERNS = {
    re.escape(JPEG): "a JPEG",
    re.escape(PNG) + rb"....CgBI": "a PNG of Apple's own kind",
    re.escape(PNG): "a PNG",
    rb"RIFF....WEBP": "a WebP",
    rb"GIF8[79]a": "a GIF",
    # The length of the header behind the file's own.
    rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00{3}": "a BMP",
    rb"II[*+]\x00|MM\x00[*+]": "a TIFF",  # of 4 GB at most, or BigTIFF
    rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)": "a HEIC",
    rb"....ftypavi[fs]": "an AVIF",
    rb"....ftyp": "an MP4 or another film",
    rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000",
    rb"\x00\x00\x00\x0cJXL |\xff\x0a": "a JPEG XL",
    rb"\x00\x00\x01\x00": "an ICO",
    rb"P[1-6]\s+(#[^\n]*\n\s*)*\d": "a PNM",
    rb"P7\s+(#[^\n]*\n\s*)*WIDTH": "a PAM",
    rb"8BPS": "a PSD",
    rb"\s*<svg|\s*<\?xml[^\x00]*<svg": "an SVG",
    rb"/9j/": "a JPEG in base64",
    rb"iVBORw0KGgo": "a PNG in base64",
}
_COMPILED = {re.compile(one, re.DOTALL): name for one, name in PATTERNS.items()}


def describe(data: bytes) -> str | None:
    """Return "a PNG", "an SVG" or the like; None of what is no image known here."""
    head = data[:HEAD]
    return next((name for one, name in _COMPILED.items() if one.match(head)), None)


def is_in_records(data: bytes) -> bool:
    """Whether training, evaluation and a SavedModel read an image of this kind."""
    return describe(data) in IN_RECORDS
