import math
import random

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from common.errors import UserError
from input_pipeline import erasing
from input_pipeline.erasing import random_erasing
from tests.input_pipeline.builders import as_it_is

AREAS, RATIOS = (0.02, 1 / 3), (0.3, 1 / 0.3)


def erase_many(image: np.ndarray, count: int, **options) -> np.ndarray:
    """One result for each of the seeds (7, 0), (7, 1), ..."""
    images = tf.data.Dataset.range(count).map(
        as_it_is(
            lambda i: random_erasing(tf.constant(image), tf.stack([7, i]), **options)
        )
    )
    assert images.element_spec == tf.TensorSpec(image.shape, tf.uint8)
    return np.stack(list(images.as_numpy_iterator()))


def rectangle(changed: np.ndarray) -> list[int]:
    """Top, left, height and width of what changed, which must be a rectangle."""
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert changed.sum() == height * width
    return [int(x) for x in (rows[0], columns[0], height, width)]


def timm_rectangle(rows: int, columns: int) -> tuple[int, int, int, int] | None:
    """The reference's trials, one after another."""
    for _ in range(10):
        area = random.uniform(*AREAS) * rows * columns
        ratio = math.exp(random.uniform(*map(math.log, RATIOS)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if height < rows and width < columns:
            top, left = (
                random.randint(0, rows - height),
                random.randint(0, columns - width),
            )
            return top, left, height, width
    return None


def test_sizes():
    draws = tf.constant([[0.0, 0.5, 1.0, 0.5], [0.5, 0.5, 0.5, 0.0]])
    shape = tf.constant([100, 100, 3])
    sizes = erasing.draw_sizes(shape, draws, (0.04, 0.16), (1 / 4, 4))
    want = [[20, 20], [32, 32], [40, 40], [16, 63]]  # sqrt(1000), sqrt(1000 * 4)
    np.testing.assert_array_equal(sizes, want)


def test_fill():
    image = tf.zeros([4, 5, 3], tf.uint8)
    patch = tf.reshape(tf.range(1, 13), [2, 2, 3])
    got = erasing.fill(image, tf.constant([1, 3]), tf.cast(patch, tf.uint8)).numpy()
    want = np.zeros([4, 5, 3], np.uint8)
    want[1, 3], want[1, 4] = [1, 2, 3], [4, 5, 6]
    want[2, 3], want[2, 4] = [7, 8, 9], [10, 11, 12]
    np.testing.assert_array_equal(got, want)


def test_the_rectangles_are_the_references(monkeypatch):
    def white(size, seed):
        return tf.fill([size[0], size[1], 3], tf.constant(255, tf.uint8))

    monkeypatch.setattr(erasing, "_noise", white)
    image = np.zeros([48, 64, 3], np.uint8)
    erased = erase_many(image, 1500, probability=1.0)
    got = np.array([rectangle(changed) for changed in (erased > 0)[..., 0]])
    random.seed(1)
    want = np.array([timm_rectangle(48, 64) for _ in range(6000)])
    for name, ours, theirs in zip(
        ("top", "left", "height", "width"), got.T, want.T, strict=True
    ):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3, name
    assert (got[:, 0] + got[:, 2]).max() == 48
    assert (got[:, 1] + got[:, 3]).max() == 64
    correlation = np.corrcoef(got.T), np.corrcoef(want.T)
    np.testing.assert_allclose(*correlation, atol=0.1)


def test_the_noise_is_the_normalisations():
    image = np.zeros([64, 64, 3], np.uint8)
    erased = erase_many(image, 40, probability=1.0)
    noise = erased[erased.any(-1)]
    levels = np.arange(256)
    for channel, mean, std in zip(
        noise.T, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), strict=True
    ):
        below = stats.norm(mean, std).cdf(levels + 0.5)
        below[-1] = 1.0
        shares = np.bincount(channel, minlength=256) / len(channel)
        assert np.abs(np.cumsum(shares) - below).max() < 1.95 / len(channel) ** 0.5
        assert 0.01 < shares[0] + shares[255] < 0.05  # clipped
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


def test_probability_and_seed():
    image = np.full([16, 16, 3], 77, np.uint8)
    first = erase_many(image, 800, probability=0.25)
    share = (first != 77).any((1, 2, 3)).mean()
    assert 0.19 < share < 0.31  # standard deviation 0.015
    np.testing.assert_array_equal(first, erase_many(image, 800, probability=0.25))
    assert (erase_many(image, 20, probability=0.0) == 77).all()
    for dtype in (tf.int32, tf.int64):
        for i in range(8):
            eager = random_erasing(tf.constant(image), tf.constant([7, i], dtype))
            np.testing.assert_array_equal(eager, first[i])


def test_an_image_stays_where_no_rectangle_fits():
    image = np.full([16, 16, 3], 77, np.uint8)
    options = {"area_range": (1, 1), "aspect_ratio_range": (1, 1)}
    erased = erase_many(image, 5, probability=1.0, **options)
    assert (erased == 77).all()


def test_later_trials_help():
    # 0.5 of the area fits with a ratio of 1/2 to 2, a third of this range.
    options = {"area_range": (0.5, 0.5), "aspect_ratio_range": (1 / 8, 8)}
    erased = erase_many(
        np.full([16, 16, 3], 77, np.uint8), 400, probability=1.0, **options
    )
    share = (erased != 77).any((1, 2, 3)).mean()
    assert 0.95 < share <= 1.0  # 1 - (2/3)^10 = 0.983


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, "probability = 1.5: it has to be a number from 0 to 1"),
        (
            {"area_range": (0.4, 0.2)},
            r"area_range = \(0.4, 0.2\): it has to be the smallest and",
        ),
        ({"area_range": (0.1, 2)}, "two numbers from 0.000001 to 1"),
        (
            {"aspect_ratio_range": (0, 2)},
            r"aspect_ratio_range = \(0, 2\): it has to be",
        ),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(UserError, match=message):
        random_erasing(tf.zeros([8, 8, 3], tf.uint8), tf.constant([1, 2]), **options)


@pytest.mark.slow
def test_the_sizes_are_the_model_gardens(monkeypatch):
    """Its sides are even; its places are not compared: it centres on the top left."""
    augment = pytest.importorskip("official.vision.ops.augment")

    def show(image, center_width, center_height, half_width, half_height, replace):
        return tf.zeros_like(image) + tf.stack([half_height, half_width, 0])

    monkeypatch.setattr(augment, "_fill_rectangle", show)
    tf.random.set_seed(3)
    garden = augment.RandomErasing(probability=1.0)
    blank = tf.fill([640, 480, 3], -1)
    theirs = np.array([garden.distort(blank)[0, 0, :2].numpy() for _ in range(2000)])
    shape = tf.constant([640, 480, 3])
    draws = tf.random.stateless_uniform([2, 4000], (1, 2))
    ours = erasing.draw_sizes(shape, draws, AREAS, RATIOS).numpy()
    ours = ours[(ours < [640, 480]).all(1)]
    for side in range(2):
        halves = np.round(ours[:, side] / 2)
        assert stats.ks_2samp(halves, theirs[:, side]).pvalue > 1e-3
