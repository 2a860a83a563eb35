import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import image_formats, preprocess
from input_pipeline.images import png
from input_pipeline.preparation import jpeg
from input_pipeline.preparation.jpeg import BadImageError, to_rgb_jpeg, to_rgb_jpegs
from tests.input_pipeline import damaged_jpegs


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """A gradient uint8[H, W, 3]: what a JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    ramps = [x * 255 / (width - 1), y * 255 / (height - 1), 200 - x - y]
    return np.stack(ramps, -1).astype(np.uint8)


def saved(image: Image.Image, form: str, **options) -> bytes:
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def decoded(image: jpeg.Jpeg) -> np.ndarray:
    pixels = tf.io.decode_jpeg(image.encoded).numpy()
    assert pixels.shape == (image.height, image.width, 3)
    return pixels.astype(int)


RGB = Image.fromarray(smooth())


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}]
)
def test_a_jpeg_of_three_components_is_not_touched(options):
    data = saved(RGB, "JPEG", **options)
    result = to_rgb_jpeg(data)
    assert result == jpeg.Jpeg(data, 24, 40)
    assert np.abs(decoded(result) - smooth()).mean() < 4


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})],
)
def test_other_formats_become_a_jpeg_of_the_same_pixels(form, options):
    data = saved(RGB, form, **options)
    result = to_rgb_jpeg(data)
    assert result.encoded[:3] == b"\xff\xd8\xff"
    assert np.abs(decoded(result) - smooth()).max() <= 12
    assert to_rgb_jpeg(data) == result
    # No chroma subsampling: the sampling factors of all three components are 1 x 1.
    frame = result.encoded.index(b"\xff\xc0")
    assert result.encoded[frame + 11 : frame + 18 : 3] == b"\x11\x11\x11"


def test_modes_are_converted_as_torchvision_does():
    grey = RGB.convert("L")
    cmyk = RGB.convert("CMYK")
    alpha = RGB.convert("RGBA")
    alpha.putalpha(0)
    palette = RGB.quantize(200)
    cases = [
        saved(grey, "JPEG", quality=95),
        saved(cmyk, "JPEG", quality=95),
        saved(alpha, "PNG"),
        saved(palette, "PNG", transparency=bytes(range(200))),
        saved(RGB.convert("1"), "PNG"),
    ]
    for data in cases:
        with warnings.catch_warnings(action="ignore"):
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
        assert np.abs(decoded(to_rgb_jpeg(data)) - expected).mean() < 4
    # They are as they look, not inverted.
    for data, image in zip(cases[:3], (grey, RGB, RGB), strict=True):
        expected = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(decoded(to_rgb_jpeg(data)) - expected).mean() < 5


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    image = Image.fromarray(np.tile(ramp, (32, 1)))
    for form in ("PNG", "TIFF", "PPM"):
        result = decoded(to_rgb_jpeg(saved(image, form)))
        assert np.abs(result[:, :, 0] - ramp / 257).max() <= 4, form


def png_with_key(pixels: np.ndarray, bits: int, key: tuple[int, ...]) -> bytes:
    """A PNG of 4 or 16 bits, grey or RGB, one of whose colours is transparent."""
    height, width = pixels.shape[:2]
    color = 0 if pixels.ndim == 2 else 2
    if bits == 4:
        rows = [(row[::2] << 4 | row[1::2]).astype(np.uint8) for row in pixels]
    else:
        rows = list(pixels.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    chunks += chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("bits", "key"),
    [(16, (0x1234,)), (16, (0x1234, 0x1234, 0x1234)), (4, (1,))],
    ids=["grey", "RGB", "grey of 4 bits"],
)
def test_a_colour_that_is_transparent_is_white_in_any_depth(bits, key):
    """That one alone: its neighbour stays, and so does what Pillow would clip."""
    most = (1 << bits) - 1
    levels = np.repeat([key[0], key[0] + 1, most // 2, most], 16)
    pixels = np.tile(levels, (16, 1))
    pixels = pixels if len(key) == 1 else np.repeat(pixels[..., None], 3, -1)
    data = png_with_key(pixels, bits, key)
    scaled = levels * (255 / most)
    plain, white = (to_rgb_jpeg(data, on_white=one) for one in (False, True))
    assert plain.transparent
    assert np.abs(decoded(plain) - scaled[:, None]).max() <= 3
    scaled[:16] = 255
    assert np.abs(decoded(white) - scaled[:, None]).max() <= 3
    whole = tf.constant([0, 0, 16, 64])
    seen = preprocess.cropped(tf.constant(data), lambda _: whole).numpy()
    assert np.abs(seen - scaled[:, None]).max() <= 1


def test_the_first_frame_of_a_gif():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(decoded(to_rgb_jpeg(data)) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is empty"),
        (b"not found", "is not a whole image (one of JPEG, PNG"),
        (b"<!DOCTYPE HTML><html>", "is a page of the web, none of JPEG, PNG"),
        (b"\0\0\0\x20ftypheix\0", "is a HEIC, none of JPEG, PNG"),
        (b"\0\0\0\x1cftypavif\0", "is an AVIF, none of JPEG, PNG"),
        (saved(RGB, "JPEG")[:-100], "is damaged or cut off"),
        (
            saved(RGB.convert("CMYK"), "JPEG")[:-100],
            "is damaged or cut off (image file is",
        ),
        (saved(RGB, "PNG")[:-60], "is damaged or cut off"),
        (saved(RGB, "JPEG")[:30], "is damaged or cut off"),
        (saved(RGB, "WEBP")[:40], "is damaged or cut off"),
        (saved(RGB.convert("F"), "TIFF"), "has floating-point pixels"),
        (saved(Image.new("I", (4, 4), 1 << 20), "TIFF"), "has grey pixels of 32 bits"),
    ],
)
def test_bad_images_are_named(data, fault):
    with pytest.raises(BadImageError) as error:
        to_rgb_jpeg(data)
    assert str(error.value).startswith(fault)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_that_training_refuses_is_bad_and_is_not_decoded(form):
    data = bytearray(saved(Image.new("RGB", (20_000, 4)), form))
    if form == "PNG":
        data[20:24] = (20_000).to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 2] = (20_000).to_bytes(2, "big")
    with pytest.raises(BadImageError, match="has 20000 x 20000 pixels, more than 100,"):
        to_rgb_jpeg(bytes(data))


def test_a_frame_that_is_larger_than_its_gif():
    frame = b",\0\0\0\0\xff\xff\xff\xff\0\2\2\x4c\1\0;"
    data = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame
    with pytest.raises(BadImageError, match="has 65535 x 65535 pixels, more than 100"):
        to_rgb_jpeg(data)


def test_files_that_are_too_large_to_be_images():
    jpeg.require_size(1 << 30)
    with pytest.raises(BadImageError, match="has 1,073,741,825 bytes, too many for an"):
        jpeg.require_size((1 << 30) + 1)


def test_what_looks_like_an_image():
    assert jpeg.is_image(io.BytesIO(saved(RGB, "PNG")))
    assert not jpeg.is_image(io.BytesIO(b"BM, said the text"))
    assert not jpeg.is_image(io.BytesIO(b""))


def chunk(name: bytes, data: bytes, wrong: int = 0) -> bytes:
    crc = zlib.crc32(name + data) ^ wrong
    return len(data).to_bytes(4, "big") + name + data + crc.to_bytes(4, "big")


def test_a_png_that_only_pillow_reads_is_damaged():
    """Training's decoder refuses it, and so does classify: nobody may learn it."""
    whole = saved(RGB, "PNG")
    place = whole.index(b"IDAT") - 4
    for damaged in (whole[:-12], whole[:-14] + b"??", whole[:-16] + b"?" + whole[-15:]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.io.decode_png(damaged)
        with pytest.raises(BadImageError, match=r"^is damaged or cut off$"):
            to_rgb_jpeg(damaged)
    # What no pixel needs may have a wrong checksum.
    odd = whole[:place] + chunk(b"prIv", b"text", wrong=1) + whole[place:]
    assert np.array_equal(tf.io.decode_png(odd), tf.io.decode_png(whole))
    assert png.is_sound(odd)
    assert png.is_sound(whole + b"more")


def tiff(tags: dict[int, object], image: Image.Image = RGB) -> bytes:
    return saved(image, "TIFF", tiffinfo=tags)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (tiff({254: 1}), "begins with a preview, as cameras' raw files do"),
        (tiff({50706: b"\1\4\0\0"}), "begins with a preview, as cameras' raw files"),
        (tiff({254: 0}).replace(b"\xfe\0\4\0", b"\xfe\0\2\0"), "is damaged or cut off"),
        # Of values below 65,536, which may be the scale or not.
        (saved(Image.new("I", (4, 4), 200), "TIFF"), "has grey pixels of 32 bits"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\0\0\0\0", "is a PNG of Apple's own kind"),
    ],
)
def test_images_that_would_be_learnt_as_something_else(data, fault):
    with pytest.raises(BadImageError) as error:
        to_rgb_jpeg(data)
    assert str(error.value).startswith(fault)


def test_files_that_pillow_knows_are_known_by_their_first_bytes():
    bmp = saved(RGB, "BMP")
    for data in (bmp[:6] + b"ABCD" + bmp[10:], saved(RGB, "TIFF", big_tiff=True)):
        assert np.abs(decoded(to_rgb_jpeg(data)) - smooth()).max() <= 12
    assert image_formats.describe(b"BM, said the text, and nothing more") is None


# A directory of EXIF with the one tag, for a photo on its side.
TURNED = b"\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"


def test_several_files_are_what_each_is_alone():
    """Whatever stands beside it: sound, damaged, complained of, or converted."""
    jpegs = [data for _, data in damaged_jpegs.damaged(54)]
    turned = saved(RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + TURNED)
    others = [b"", b"hello", saved(RGB, "PNG"), saved(RGB, "PNG")[:99], turned]
    files = [*damaged_jpegs.kinds().values(), *jpegs, *others]
    files = [files[n] for n in np.random.RandomState(0).permutation(len(files))]
    for options in ({}, {"apply_orientation": True, "on_white": True}):
        alone = []
        for data in files:
            try:
                alone.append(to_rgb_jpeg(data, **options))
            except BadImageError as error:
                alone.append(str(error))
        together = [
            str(one) if isinstance(one, BadImageError) else one
            for one in to_rgb_jpegs(files, **options)
        ]
        assert together == alone
        assert 20 < sum(isinstance(one, jpeg.Jpeg) for one in alone) < len(files) - 20
