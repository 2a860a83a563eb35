"""Bytes to pixels in one op: what TensorFlow's several make, bit for bit."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.fused import images

ROUNDINGS = {
    "float": tf.identity,
    "floor": preprocess.to_uint8,
    "nearest": preprocess.nearest_uint8,
}
FORMS = {
    "4:2:0": ("RGB", {"quality": 90}),
    "4:2:2": ("RGB", {"quality": 75, "subsampling": 1}),
    "4:4:4": ("RGB", {"quality": 98, "subsampling": 0}),
    "progressive": ("RGB", {"quality": 85, "progressive": True}),
    "grey": ("L", {"quality": 80}),
    "four colours": ("CMYK", {"quality": 80}),
    "optimised": ("RGB", {"quality": 10, "optimize": True}),
}
SIDES = [(1, 1), (2, 9), (17, 16), (48, 65), (130, 97)]


def jpeg(form: str, height: int, width: int) -> bytes:
    """A gradient with noise, so that neither is all that is tested."""
    mode, options = FORMS[form]
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    noise = np.random.RandomState(height).randint(0, 56, ramp.shape)
    output = io.BytesIO()
    image = Image.fromarray((ramp + noise).astype(np.uint8)).convert(mode)
    image.save(output, "JPEG", **options)
    return output.getvalue()


def random_window(rng: np.random.RandomState, height: int, width: int) -> list[int]:
    sides = rng.randint(1, height + 1), rng.randint(1, width + 1)
    top, left = height - sides[0], width - sides[1]
    return [rng.randint(top + 1), rng.randint(left + 1), *sides]


def differences(ops, form, side, windows, resolutions) -> list[tuple]:
    """The cases in which the fused op gives another image."""
    rng, found = np.random.RandomState(side[0]), []
    encoded = tf.constant(jpeg(form, *side))
    for _ in range(windows):
        window = tf.constant(random_window(rng, *side))
        crop = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        for size in resolutions:
            for method in preprocess.RESIZES:
                resized = preprocess.resize(crop, size, method)
                mirrored = tf.constant(bool(rng.randint(2)))
                for pixels, rounded in ROUNDINGS.items():
                    want = rounded(resized).numpy()
                    want = want[:, ::-1] if mirrored else want
                    got = images.crop_resize(
                        ops, encoded, window, mirrored, size, method, pixels
                    ).numpy()
                    assert got.dtype == want.dtype
                    if not np.array_equal(got, want):
                        found.append((window.numpy(), size, method, pixels))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_crop_is_tensorflows(ops, form):
    for side in SIDES:
        assert not differences(ops, form, side, windows=2, resolutions=(1, 32, 51))


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_thousands_of_crops_are_tensorflows(ops, form):
    """11,340 in all: 7 forms, 5 sizes, 9 windows, 4 resolutions, 3 methods ..."""
    for side in SIDES:
        sizes = (7, 64, 131, 224)
        assert not differences(ops, form, side, windows=9, resolutions=sizes)


def test_every_fraction_of_a_level_is_rounded_as_tensorflow_does(ops):
    """Where halves lie, floats are coarser or finer: a pixel of each kind."""
    flat = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    encoded = tf.io.encode_jpeg(flat, quality=100, chroma_downsampling=False)
    window = tf.constant([0, 0, 16, 16])
    for size in (31, 63, 127, 255):  # scales with fractions of a half and near it
        for method in preprocess.RESIZES:
            crop = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
            resized = preprocess.resize(crop, size, method)
            for pixels, rounded in ROUNDINGS.items():
                got = images.crop_resize(
                    ops, encoded, window, tf.constant(False), size, method, pixels
                )
                np.testing.assert_array_equal(got, rounded(resized))


def decoded(function):
    try:
        return function().numpy().tobytes()
    except tf.errors.InvalidArgumentError:
        return None


def test_what_is_cut_off_or_damaged_is_read_as_tensorflow_reads_it(ops):
    """In both something is made up, or neither gives an image."""
    whole = jpeg("4:2:0", 48, 65)
    window = tf.constant([5, 6, 31, 40])
    rng, refused, cases = np.random.RandomState(0), 0, []
    for end in range(0, len(whole), 61):
        cases.append(whole[:end])
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.randint(2, len(whole), 3):
            broken[place] = rng.randint(256)
        cases.append(bytes(broken))
    for content in cases:
        encoded = tf.constant(content)

        def plain(encoded=encoded):
            crop = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
            return preprocess.to_uint8(preprocess.resize(crop, 24))

        def fused(encoded=encoded):
            return images.crop_resize(
                ops, encoded, window, tf.constant(False), 24, "bicubic", "floor"
            )

        want = decoded(plain)
        assert decoded(fused) == want
        refused += want is None
    assert 20 < refused < len(cases) - 20  # both happen


@pytest.mark.parametrize(
    "window",
    [
        [-1, 0, 4, 4],
        [0, -1, 4, 4],
        [0, 0, 0, 4],
        [0, 0, 4, -4],
        [0, 0, 49, 4],
        [45, 0, 4, 4],
        [0, 62, 4, 4],
        [0, 0, 2**31 - 1, 2**31 - 1],
        [2**31 - 1, 0, 1, 1],
    ],
)
def test_a_window_outside_the_image_is_refused(ops, window):
    with pytest.raises(tf.errors.InvalidArgumentError, match="crop window"):
        images.crop_resize(
            ops,
            tf.constant(jpeg("4:2:0", 48, 65)),
            tf.constant(window),
            tf.constant(False),
            8,
            "bicubic",
            "floor",
        )


def test_inputs_of_another_shape_are_refused(ops):
    good = {
        "encoded": tf.constant(jpeg("grey", 8, 8)),
        "window": tf.constant([0, 0, 4, 4]),
        "mirrored": tf.constant(False),
    }
    how = {"size": 4, "resize": "bicubic", "pixels": "floor", "T": tf.uint8}
    assert ops.efficientnetx_crop_resize(**good, **how).shape == (4, 4, 3)
    bad = {
        "encoded": tf.constant([b"", b""]),
        "window": tf.constant([0, 0, 4]),
        "mirrored": tf.constant([True]),
    }
    for name, value in bad.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match="window has 4"):
            ops.efficientnetx_crop_resize(**{**good, name: value}, **how)
    for change in ({"size": 0}, {"resize": "lanczos"}, {"pixels": "half"}):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"size has|unknown"):
            ops.efficientnetx_crop_resize(**good, **{**how, **change})


def test_another_type_than_the_rounding_gives_is_refused(ops):
    how = {"size": 4, "resize": "bicubic", "pixels": "float", "T": tf.uint8}
    with pytest.raises(tf.errors.InvalidArgumentError, match="T is"):
        ops.efficientnetx_crop_resize(
            tf.constant(jpeg("grey", 8, 8)),
            tf.constant([0, 0, 4, 4]),
            tf.constant(False),
            **how,
        )
