"""The bytes of any image -> the bytes of a JPEG that training reads."""

import dataclasses
import io
import re
import warnings
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageChops
from PIL.TiffImagePlugin import TiffImageFile

from input_pipeline import image_formats, jpeg_warnings
from input_pipeline.images import exif, png
from input_pipeline.preprocess import MAX_PIXELS

MAX_BYTES = 1 << 30  # no image of MAX_PIXELS has as many
FORMATS = tuple(image_formats.IN_FILES.values())
# What stands in the place of images, under their names.
_NO_IMAGES = {
    "a page of the web": rb"\s*<(!doctype )?html",
    "what Git LFS leaves in place of a file": rb"version https://git-lfs",
}
# MPO is what phones write: a JPEG with further ones behind it.
_JPEGS = ("JPEG", "MPO")
_QUALITY = 95
# Tags of TIFF.
_SUBFILE, _BITS, _SAMPLES, _DNG_VERSION = 254, 258, 339, 50706
_REDUCED = 1  # a bit of _SUBFILE
# What makes a photo upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of size by itself; here, MAX_PIXELS decides.
Image.MAX_IMAGE_PIXELS = None


class BadImageError(ValueError):
    """An image that cannot be used; the text goes on after its name: "is cut off"."""


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """An RGB JPEG, its size in pixels, and what its source had beside colours.

    Attributes:
      encoded: its bytes.
      height: in pixels.
      width: in pixels.
      orientation: of its source, by EXIF.
      transparent: whether its source may have transparent pixels.
    """

    encoded: bytes
    height: int
    width: int
    orientation: int = exif.UPRIGHT
    transparent: bool = False


def to_rgb_jpeg(
    data: bytes, *, apply_orientation: bool = False, on_white: bool = False
) -> Jpeg:
    """Return a JPEG of three components that tf.io.decode_jpeg reads.

    Such a JPEG is returned as it is. Anything else is converted as torchvision's loader
    does it, Pillow's convert("RGB"): no colour profile, alpha and EXIF orientation are
    ignored, the first frame is taken. 16 bits are scaled to 8. It is saved in quality
    95 without chroma subsampling, the same bytes on every run. A TIFF's orientation is
    its own, and no EXIF: Pillow turns it.

    Args:
      data: a file of one of FORMATS; its content tells which.
      apply_orientation: whether an image that carries an EXIF orientation is converted,
        too, turned upright and without the tag.
      on_white: whether transparent pixels lie on white, in place of the colour that a
        program has left below them, often black.

    Raises:
      BadImageError: no image, damaged, cut off, lacking data that libjpeg would fill
        with grey, or more than MAX_PIXELS pixels.
    """
    [found] = to_rgb_jpegs(
        [data], apply_orientation=apply_orientation, on_white=on_white
    )
    if isinstance(found, BadImageError):
        raise found
    return found


def to_rgb_jpegs(
    files: Sequence[bytes], *, apply_orientation: bool = False, on_white: bool = False
) -> list[Jpeg | BadImageError]:
    """Return for each of some files what `to_rgb_jpeg` returns or raises, in less time.

    Args:
      files: a few.
      apply_orientation: as in `to_rgb_jpeg`.
      on_white: likewise.
    """
    found: list[Jpeg | BadImageError] = []
    unsure: dict[int, _Converted] = {}  # whether they decode, by their place in `found`
    for data in files:
        try:
            one = _converted(data, apply_orientation, on_white)
        except BadImageError as error:
            found.append(error)
            continue
        if one.is_jpeg:
            unsure[len(found)] = one
        found.append(one.jpeg)
    # The decoder complains of few, and those alone are looked at one by one.
    common = [number for number, one in unsure.items() if one.grey]
    silent = jpeg_warnings.silent([files[number] for number in common])
    sound = {number for number, one in zip(common, silent, strict=True) if one}
    for number, one in unsure.items():
        if number not in sound:
            try:
                _check_decodes(files[number], grey=one.grey)
            except BadImageError as error:
                found[number] = error
    return found


class _Converted(NamedTuple):
    """What was made of a file; if it is a JPEG, whether it decodes is to be seen.

    Attributes:
      jpeg: what it has become.
      is_jpeg: whether the file is one.
      grey: whether it will do to decode it to a grey image.
    """

    jpeg: Jpeg
    is_jpeg: bool
    grey: bool


def _converted(data: bytes, apply_orientation: bool, on_white: bool) -> _Converted:
    if not data:
        raise BadImageError("is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oddities that the conversion settles
        with _open(data) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(
                    f"has {width} x {height} pixels, more than {MAX_PIXELS:,}"
                )
            orientation = exif.orientation(data)
            turn = _TURNS.get(orientation) if apply_orientation else None
            is_jpeg = image.format in _JPEGS
            as_it_is = is_jpeg and image.mode == "RGB" and turn is None
            transparent = not is_jpeg and image.has_transparency_data
            whiten = on_white and transparent
            encoded = data if as_it_is else _convert(image, data, turn, whiten)
            if turn is not None and orientation in exif.ON_THEIR_SIDE:
                height, width = width, height
            jpeg = Jpeg(encoded, height, width, orientation, transparent)
            return _Converted(jpeg, is_jpeg, grey=image.mode == "RGB")


def require_size(size: int) -> None:
    """Raise BadImageError if a file has too many bytes to be read, as sparse ones."""
    if size > MAX_BYTES:
        raise BadImageError(f"has {size:,} bytes, too many for an image")


def is_image(file: BinaryIO) -> bool:
    """Whether the file begins like an image of one of FORMATS, whatever its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=FORMATS):
                return True
        except Exception:  # whatever the damage leads Pillow to; it is not asked
            return False


def _open(data: bytes) -> Image.Image:
    # Not Pillow alone decides: what it knows by other bytes, nobody else would read.
    if image_formats.describe(data) not in image_formats.IN_FILES:
        raise BadImageError(_other_format(data))
    if data.startswith(image_formats.PNG) and not png.is_sound(data):
        raise BadImageError("is damaged or cut off")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if isinstance(image, TiffImageFile):
            _refuse_odd_tiff(image)
    except BadImageError:
        raise
    except Exception:  # as in is_image
        raise BadImageError(_other_format(data)) from None
    return image


def _refuse_odd_tiff(image: TiffImageFile) -> None:
    """Refuse a TIFF whose first page is not the image, or whose scale is not known."""
    tags = image.tag_v2
    if _DNG_VERSION in tags or tags.get(_SUBFILE, 0) & _REDUCED:
        raise BadImageError(
            "begins with a preview, as cameras' raw files do: develop it to a JPEG"
        )
    if image.mode.startswith("I") and (
        set(tags.get(_BITS, (1,))) != {16} or tags.get(_SAMPLES, (1,)) != (1,)
    ):
        raise BadImageError(
            f"has grey pixels of {tags.get(_BITS, (1,))[0]} bits, or with a sign: save "
            "it with 8 or 16 bits and none"
        )


def _other_format(data: bytes) -> str:
    names = ", ".join(FORMATS)
    what = image_formats.describe(data)
    for name, begin in _NO_IMAGES.items():
        if re.match(begin, data, re.IGNORECASE):
            what = name
    if what in image_formats.IN_FILES:
        return "is damaged or cut off"
    if what is None:
        return f"is not a whole image (one of {names})"
    return f"is {what}, none of {names}"


def _check_decodes(data: bytes, *, grey: bool) -> None:
    """Let the decoder of training read all of it; a small grey image is quicker."""
    try:
        complaint = jpeg_warnings.decode(data, ratio=8, grey=grey)
    except tf.errors.InvalidArgumentError:
        raise BadImageError("is damaged or cut off") from None
    if complaint is not None and complaint.is_damage:
        raise BadImageError(
            f"lacks data that would be filled with grey (libjpeg: {complaint.text})"
        )


def _convert(
    image: Image.Image, data: bytes, turn: Image.Transpose | None, on_white: bool
) -> bytes:
    output = io.BytesIO()
    try:
        if on_white:
            image = _on_white(image, data)
        rgb = _eight_bits(_as_marked(image)).convert("RGB")
        rgb = rgb if turn is None else rgb.transpose(turn)
        rgb.save(output, "JPEG", quality=_QUALITY, subsampling=0)
    except BadImageError:
        raise
    except Exception as error:  # whatever the damage leads Pillow to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"is damaged or cut off ({reason})") from None
    return output.getvalue()


def _on_white(image: Image.Image, data: bytes) -> Image.Image:
    rgba = _with_alpha(image, data)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def _with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """Return an image as RGBA of 8 bits; `data` is its file."""
    has_colour = "transparency" in image.info and image.mode != "P"
    if image.format != "PNG" or not has_colour:
        return image.convert("RGBA")
    # Pillow compares the one colour that is transparent, of 2, 4 or 16 bits, with
    # pixels that it has brought to 8. The decoder of training knows which are meant.
    rgba = _eight_bits(image).convert("RGB")
    rgba.putalpha(Image.fromarray(tf.io.decode_png(data, channels=4).numpy()[..., 3]))
    return rgba


def _as_marked(image: Image.Image) -> Image.Image:
    """Undo that Pillow takes each CMYK JPEG for one of Adobe's, which are negatives.

    The decoder of training and of a SavedModel does so where Adobe's marker is there.
    """
    if image.format in _JPEGS and image.mode == "CMYK" and "adobe" not in image.info:
        return ImageChops.invert(image)
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which convert("RGB") would clip at 255, to 8 bits."""
    if image.mode == "F":
        raise BadImageError("has floating-point pixels: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    return Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))
