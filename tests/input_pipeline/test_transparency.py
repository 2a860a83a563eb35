"""Transparent pixels of a PNG lie on white, wherever one is decoded."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks.support import image_kinds
from input_pipeline import preprocess
from tests.input_pipeline.images import encoded


def png(pixels: np.ndarray, mode: str = "RGBA", **options) -> bytes:
    output = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(output, "PNG", **options)
    return output.getvalue()


def decoded(data: bytes, window=(0, 0, 16, 16)) -> np.ndarray:
    return preprocess.cropped(tf.constant(data), lambda _: tf.constant(window)).numpy()


@pytest.fixture(scope="module")
def pixels():
    """Every opacity, on colours at random."""
    drawn = np.random.RandomState(0).randint(0, 256, (16, 16, 4))
    drawn[..., 3] = np.arange(256).reshape(16, 16)
    return drawn.astype(np.uint8)


def test_colours_are_mixed_with_white_to_the_nearest_level(pixels):
    colours, opaque = np.split(pixels.astype(float), [3], axis=-1)
    want = np.floor((colours * opaque + 255 * (255 - opaque)) / 255 + 0.5)
    np.testing.assert_array_equal(decoded(png(pixels)), want)
    part = decoded(png(pixels), (3, 5, 7, 2))
    np.testing.assert_array_equal(part, want[3:10, 5:7])
    assert (decoded(png(pixels))[0, 0] == 255).all()


def test_what_is_opaque_is_as_it_was():
    data = encoded(3, "PNG")
    want = tf.io.decode_png(data, channels=3).numpy()
    whole = (0, 0, *want.shape[:2])
    np.testing.assert_array_equal(decoded(data, whole), want)


def test_a_palette_and_grey_with_transparency(pixels):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 0, 200, 0])
    for transparent, want in ((1, (255, 255, 255)), (0, (0, 200, 0))):
        output = io.BytesIO()
        palette.save(output, "PNG", transparency=transparent)
        assert (decoded(output.getvalue()) == want).all()
    grey = decoded(png(pixels, "LA"))
    assert (grey[0, 0] == 255).all()
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_without_transparency_are_opaque(bits):
    """The decoder fills their alpha with 1, 3 or 15, on white nearly nothing."""
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16) % 2**bits
    drawn = np.random.RandomState(bits).randint(0, 256, (2**bits, 3), dtype=np.uint8)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette(drawn.tobytes())

    def saved(**options) -> bytes:
        output = io.BytesIO()
        palette.save(output, "PNG", bits=bits, **options)
        assert output.getvalue()[24] == bits
        return output.getvalue()

    np.testing.assert_array_equal(decoded(saved()), drawn[numbers])
    part = decoded(saved(), (3, 5, 7, 2))
    np.testing.assert_array_equal(part, drawn[numbers][3:10, 5:7])
    clear = np.where(numbers[..., None] == 1, 255, drawn[numbers])
    np.testing.assert_array_equal(decoded(saved(transparency=1)), clear)
    assert (decoded(saved(transparency=bytes(2**bits))) == 255).all()
    (grey,) = (
        kind.encoded
        for kind in image_kinds.kinds()
        if kind.name == f"PNG, grey of {bits} bits"
    )
    whole = (0, 0, image_kinds.HEIGHT, image_kinds.WIDTH)
    want = tf.io.decode_png(grey, channels=3)
    np.testing.assert_array_equal(decoded(grey, whole), want)
