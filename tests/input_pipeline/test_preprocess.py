import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import preprocess
from tests.input_pipeline.builders import DATA, jpeg
from tests.support import plain_crop


def read(photo: str) -> bytes:
    return (DATA / f"{photo}.jpg").read_bytes()


@pytest.mark.parametrize(
    ("size", "resolution", "window"),
    [
        ((512, 512), 224, [32, 32, 448, 448]),
        ((397, 599), 224, [25, 126, 347, 347]),
        ((300, 451), 224, [19, 95, 262, 262]),
        ((512, 512), 229, [33, 33, 447, 447]),  # padding 33: 229 / 262 * 512
    ],
)
def test_central_window(size, resolution, window):
    got = preprocess.central_window(tf.constant([*size, 3]), resolution)
    assert got.numpy().tolist() == window


def test_the_same_pixels_as_png_in_any_colour_space():
    grey = np.random.RandomState(0).randint(0, 256, (40, 50, 1)).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    images = [
        grey,
        np.concatenate([grey] * 3, axis=2),
        np.concatenate([grey] * 3 + [opaque], axis=2),
        np.concatenate([grey, opaque], axis=2),
    ]
    results = [
        preprocess.eval_image(tf.io.encode_png(image), 32).numpy() for image in images
    ]
    window = preprocess.central_window(tf.constant([40, 50, 3]), 32).numpy()
    top, left, side, _ = window
    cropped = images[1][top : top + side, left : left + side]
    want = preprocess.resize(tf.constant(cropped), 32)
    for result in results:
        np.testing.assert_array_equal(result, want)


def floats_around_levels() -> np.ndarray:
    whole = np.arange(-3, 300, 0.5, dtype=np.float32)
    below, above = (np.nextafter(whole, np.float32(end)) for end in (-1e9, 1e9))
    between = np.random.RandomState(0).uniform(-50, 310, 100_000).astype(np.float32)
    tiny = np.array([-0.0, 1e-45, -1e-45, 0.49999997, -1e9, 1e9], np.float32)
    return np.concatenate([whole, below, above, between, tiny])


def test_to_uint8_clips_and_drops_the_fraction():
    pixels = floats_around_levels()
    want = np.clip(pixels, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(preprocess.to_uint8(tf.constant(pixels)), want)


def test_nearest_uint8_clips_and_rounds_halves_up():
    pixels = floats_around_levels()
    # The half is added in float32, which makes 1 of the last number below 1/2.
    want = np.floor(np.clip(pixels + np.float32(0.5), 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(preprocess.nearest_uint8(tf.constant(pixels)), want)


def test_bytes_inside_a_map_fn_as_the_exported_model_calls_it():
    png = tf.io.encode_png(np.zeros([40, 50, 4], np.uint8)).numpy()
    images = tf.map_fn(
        lambda b: preprocess.eval_image(b, 16),
        tf.constant([jpeg(0), png]),
        fn_output_signature=tf.TensorSpec([16, 16, 3], tf.float32),
    )
    assert images.shape == [2, 16, 16, 3]


def windows(shape: list[int], count: int, **options) -> np.ndarray:
    options = {
        "area_range": (0.08, 1.0),
        "aspect_ratio_range": (3 / 4, 4 / 3),
        **options,
    }
    drawn = tf.data.Dataset.range(count).map(
        lambda i: preprocess.random_window(
            tf.constant(shape), 224, tf.stack([0, i]), **options
        )
    )
    return np.array(list(drawn.as_numpy_iterator()))


def test_training_crops_have_the_reference_statistics():
    """Means of 4,000 crops of the reference: area 0.4162 and aspect 1.0391."""
    crops = windows([512, 512, 3], 2000)
    area = crops[:, 2] * crops[:, 3] / 512**2
    aspect = crops[:, 3] / crops[:, 2]
    assert abs(area.mean() - 0.4162) < 0.02  # standard error 0.006
    assert abs(aspect.mean() - 1.0391) < 0.012  # standard error 0.004
    assert area.min() >= 0.099
    assert 0.74 < aspect.min() < aspect.max() < 1.345
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, :2] + crops[:, 2:] <= 512).all()


def test_the_central_window_where_no_crop_fits():
    crops = windows([40, 400, 3], 20, area_range=(0.9, 1.0))
    central = preprocess.central_window(tf.constant([40, 400, 3]), 224).numpy()
    assert (crops == central).all()


def test_a_training_image_is_quantized_and_resized_as_it_is_told():
    encoded, seed = tf.constant(read("cat")), tf.constant([3, 4])

    def image(**options) -> np.ndarray:
        return preprocess.train_image(encoded, 48, seed, flip=False, **options).numpy()

    window = preprocess.random_window(
        preprocess.jpeg_shape(encoded),
        48,
        seed,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
    )
    part = tf.image.decode_and_crop_jpeg(encoded, window, channels=3).numpy()
    exact = np.clip(plain_crop.bicubic(part, 48), 0, 255)
    np.testing.assert_array_equal(image(), exact.astype(np.uint8))
    nearest = image(quantize=preprocess.nearest_uint8)
    np.testing.assert_array_equal(nearest, np.floor(exact + 0.5))
    assert (nearest != image()).mean() > 0.4  # half of all fractions are above a half
    for half_pixels, method in enumerate(("bilinear", "bilinear_half_pixels")):
        exact = plain_crop.bilinear(part, 48, half_pixels=bool(half_pixels))
        np.testing.assert_array_equal(image(method=method), exact.astype(np.uint8))


def test_training_images_are_a_function_of_the_seed():
    def image(index, flip=True):
        return preprocess.train_image(
            tf.constant(read("cat")), 64, tf.stack([5, index]), flip=flip
        )

    drawn = tf.data.Dataset.range(8).map(image)
    assert drawn.element_spec == tf.TensorSpec([64, 64, 3], tf.uint8)
    first = np.array(list(drawn.as_numpy_iterator()))
    np.testing.assert_array_equal(first, list(drawn.as_numpy_iterator()))
    unflipped = tf.data.Dataset.range(8).map(lambda i: image(i, flip=False))
    plain = np.array(list(unflipped.as_numpy_iterator()))
    same = [(a == b).all() for a, b in zip(first, plain, strict=True)]
    mirrored = [(a == b[:, ::-1]).all() for a, b in zip(first, plain, strict=True)]
    assert [a != b for a, b in zip(same, mirrored, strict=True)] == [True] * 8
    assert 1 <= sum(mirrored) <= 7


def test_a_header_that_claims_a_huge_image_is_refused_before_decoding():
    claim = (20_000).to_bytes(2, "big")
    encoded = jpeg(0)
    place = encoded.index(b"\xff\xc0") + 5
    huge = encoded[:place] + claim + claim + encoded[place + 4 :]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 100000000"):
        preprocess.eval_image(tf.constant(huge), 16)


def saved(form: str, width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    "sides",
    [
        *((1, 1), (1, 50), (50, 1), (1, 65_000), (65_000, 1)),
        *((1, 2), (2, 1), (2, 2), (3, 3), (7, 1)),
    ],
)
def test_images_of_a_pixel_or_two(sides):
    """In one colour, so that every crop has it; less than a level is dropped."""
    encoded, png = (tf.constant(saved(form, *sides)) for form in ("JPEG", "PNG"))
    for resolution in (32, 224):
        images = [
            preprocess.eval_image(encoded, resolution),
            preprocess.eval_image(png, resolution),
            *(
                preprocess.train_image(encoded, resolution, tf.constant([seed, 1]))
                for seed in range(3)
            ),
            preprocess.train_image(
                encoded, resolution, tf.constant([0, 1]), area_range=(0.9, 1.0)
            ),
        ]
        for image in images:
            assert image.shape == (resolution, resolution, 3)
            assert abs(image.numpy().astype(float) - [200, 100, 50]).max() <= 1


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ([1, 1, 3], [0, 0, 1, 1]),
        ([1, 50, 3], [0, 25, 1, 1]),
        ([50, 1, 3], [25, 0, 1, 1]),
        ([2, 2, 3], [1, 1, 1, 1]),
    ],
)
def test_the_central_window_has_a_pixel_at_least(shape, window):
    got = preprocess.central_window(tf.constant(shape), 224)
    assert got.numpy().tolist() == window


def png_of(width: int, height: int) -> bytes:
    """A header that claims a size, and hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (png_of(20_000, 20_000), "more than 100000000 pixels"),
        (png_of(100_000_001, 1), "more than 100000000 pixels"),
        (png_of(1, 2**31), "more than 100000000 pixels"),
        (png_of(2**32 - 1, 2**32 - 1), "more than 100000000 pixels"),
        (saved("GIF", 8, 8), "image is no JPEG and no PNG"),
        (saved("BMP", 8, 8), "image is no JPEG and no PNG"),
        (png_of(8, 8)[:15], "image is no JPEG and no PNG"),
        (png_of(8, 8).replace(b"IHDR", b"iHDR"), "image is no JPEG and no PNG"),
        (b"", "image is no JPEG and no PNG"),
    ],
)
def test_what_is_refused_before_anything_is_decoded(encoded, said):
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        preprocess.eval_image(tf.constant(encoded), 16)
    # In a graph, too, as in the exported model.
    mapped = tf.data.Dataset.from_tensors(encoded).map(
        lambda b: preprocess.eval_image(b, 16)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        list(mapped)
