"""The card alone has to be enough: pixels made by what it says, without our code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.preprocess import EvalCrop, eval_image
from tests.support import plain_crop
from train.exports.formats import card

SIZE = 24


def _by_card(described, image: np.ndarray) -> np.ndarray:
    """Return float32[S, S, 3] as a reader of the card computes it."""
    said, size = described["preprocessing"], described["resolution"]
    height, width, _ = image.shape
    if said["crop"] != "squash":
        side = int(np.float32(said["side_of_shorter"]) * np.float32(min(height, width)))
        top, left = (height - side + 1) // 2, (width - side + 1) // 2
        image = image[top : top + side, left : left + side]
    assert said["antialiased"] is False
    if said["resize"] == "bicubic":
        assert (said["cubic_coefficient"], said["half_pixel_centers"]) == (-0.75, False)
        return plain_crop.bicubic(image, size)
    return plain_crop.bilinear(image, size, half_pixels=said["half_pixel_centers"])


@pytest.mark.parametrize("fraction", [0.875, 0.9, "squash"])
@pytest.mark.parametrize("resize", ["bicubic", "bilinear", "bilinear_half_pixels"])
def test_the_card_is_enough_for_the_pixels(resize, fraction):
    crop = EvalCrop(resize, fraction)
    model = keras.Sequential(
        [keras.Input([SIZE, SIZE, 3]), keras.layers.GlobalAveragePooling2D()]
    )
    classes = DatasetInfo("colours", 0, ("r", "g", "b"), {})
    described = card.describe(model, crop, classes, "ckpt-1")
    drawn = np.random.default_rng(0).integers(0, 256, (61, 87, 3), dtype=np.uint8)
    # A PNG: decoded without loss, so that all of the difference is the resize's.
    found = eval_image(tf.io.encode_png(drawn), SIZE, crop).numpy()
    # Two passes of four terms each, of weights up to one and 255: float32's rounding.
    noise = 2**-23 * 8 * 2 * 255
    np.testing.assert_allclose(_by_card(described, drawn), found, rtol=0, atol=noise)
