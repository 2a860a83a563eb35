import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from common.errors import UserError
from input_pipeline import mixing
from input_pipeline.mixing import Mixture, mixup_cutmix

BATCH, HEIGHT, WIDTH, CLASSES = 6, 8, 12, 7
FORMS = [("NHWC", 2), ("NHWC", 4), ("HWCN", 1), ("HWCN", 2)]


@pytest.fixture
def images() -> tf.Tensor:
    """An even and an odd half, so that no number is its partner's."""
    pixels = np.random.RandomState(0).randint(0, 128, (BATCH, HEIGHT, WIDTH, 3)) * 2
    pixels[BATCH // 2 :] += 1
    return tf.constant(pixels, tf.uint8)


@pytest.fixture
def targets() -> tf.Tensor:
    """Every image of another class, so that a target shows the shares."""
    return tf.eye(BATCH, CLASSES)


def seeds(count: int) -> list[tf.Tensor]:
    return [tf.constant([5, i]) for i in range(count)]


def rounding(operations: int, scale: float = 1.0) -> float:
    """What so many float32 operations on numbers up to `scale` may add up to."""
    return 4 * 2.0**-23 * operations**0.5 * scale


def shares(mixed_targets: tf.Tensor) -> np.ndarray:
    """What is left of each image, by the targets."""
    matrix = mixed_targets.numpy()[:, :BATCH].astype(np.float64)
    kept = np.diag(matrix)
    # 1 - x, twice a product, and a sum.
    atol = rounding(4)
    np.testing.assert_allclose(np.diag(matrix[:, ::-1]), 1 - kept, rtol=0, atol=atol)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=0, atol=atol)
    return kept


def rearranged(images: tf.Tensor, layout: str, patch_size: int) -> tf.Tensor:
    if patch_size > 1:
        images = tf.nn.space_to_depth(images, patch_size)
    return tf.transpose(images, [1, 2, 3, 0]) if layout == "HWCN" else images


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_beta_is_exact(alpha):
    count = 40_000
    law = stats.beta(alpha, alpha)
    draws = mixing._uniform([2, count], tf.constant([1, 2]))
    drawn = np.sort(mixing.beta(draws, tf.fill([count], alpha)).numpy())
    assert drawn[0] >= 0
    assert drawn[-1] <= 1
    # Not where float32 has too few numbers left: at 1, and with it 0.
    at = np.linspace(1e-4, 1 - 1e-4, 2000)
    found = np.searchsorted(drawn, at, side="right") / count
    distance = np.abs(found - law.cdf(at)).max()
    assert stats.kstwobign.sf(distance * count**0.5) > 1e-3
    # The small ones have all their digits.
    small = drawn[(drawn > 0) & (drawn < 1e-4)].astype(np.float64)
    if len(small) > 100:
        within = stats.beta(alpha, alpha).cdf(small) / stats.beta(alpha, alpha).cdf(
            1e-4
        )
        assert stats.kstest(within, "uniform").pvalue > 1e-3


def test_beta_at_its_ends():
    draws = tf.constant([[0.0, 0.0, 1 - 2**-23, 0.5], [0.0, 0.5, 0.25, 0.0]])
    got = mixing.beta(draws, tf.constant([0.2, 0.2, 0.2, 1.0]))
    # sqrt(1 - 0.5) / 2 above the middle: power, product, sum, root, quotient, rest.
    want = [1, 0, 0.5, 0.5 + 0.5**1.5]
    np.testing.assert_allclose(got, want, rtol=0, atol=rounding(6))


def test_uniform_numbers():
    numbers = mixing._uniform([10_000], tf.constant([1, 2])).numpy()
    assert 0 <= numbers.min() < numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_boxes():
    weight = tf.constant([0.75, 0.75, 1.0, 0.0])
    draws = tf.constant([[0.5, 0.0, 0.5, 0.5], [0.5, 0.9, 0.5, 0.5]])
    top, left, bottom, right = mixing.boxes(weight, draws, (8, 16)).numpy()
    # Half of 8 x 16, around (4, 8) and around (0, 14); nothing; everything.
    assert list(zip(top, bottom, strict=True)) == [(2, 6), (0, 2), (4, 4), (0, 8)]
    assert list(zip(left, right, strict=True)) == [(4, 12), (10, 16), (8, 8), (0, 16)]


def test_mix_by_hand():
    images = tf.reshape(tf.constant([10.0, 20.0]), [2, 1, 1, 1]) * tf.ones([1, 2, 4, 3])
    mixture = Mixture(
        share=tf.constant([0.75, 1.0]),
        box=tf.constant([[0, 0], [0, 1], [0, 1], [0, 3]]),
    )
    mixed, targets = mixing.mix(images, tf.eye(2), mixture)
    np.testing.assert_array_equal(mixed[0], np.full([2, 4, 3], 12.5))
    second = np.array([[20, 10, 10, 20], [20, 20, 20, 20]])
    np.testing.assert_array_equal(mixed[1], np.repeat(second[..., None], 3, axis=-1))
    np.testing.assert_array_equal(targets, [[0.75, 0.25], [0.25, 0.75]])


def test_mixup_takes_one_weight_for_an_image_and_its_target(images, targets):
    plain = images.numpy().astype(np.float64)
    drawn = []
    for seed in seeds(40):
        mixed, mixed_targets = mixup_cutmix(images, targets, seed, cutmix_alpha=0)
        assert mixed.dtype == tf.float32
        kept = shares(mixed_targets)
        weight = kept[:, None, None, None]
        want = weight * plain + (1 - weight) * plain[::-1]
        # The weight is exact; 1 - x, two products and a sum of pixels.
        np.testing.assert_allclose(mixed, want, rtol=0, atol=rounding(4, 255))
        drawn.extend(kept)
    assert len(set(np.round(drawn, 6))) > 150  # every image its own
    assert stats.kstest(np.clip(drawn, 1e-6, 1), stats.beta(0.2, 0.2).cdf).pvalue > 1e-3


def test_cutmix_takes_a_box_of_the_partner_and_its_area_of_the_target(images, targets):
    plain = tf.cast(images, tf.float32).numpy()
    areas = []
    for seed in seeds(40):
        mixed, mixed_targets = mixup_cutmix(images, targets, seed, mixup_alpha=0)
        other = (mixed.numpy() != plain).any(-1)
        want = np.where(other[..., None], plain[::-1], plain)
        np.testing.assert_array_equal(mixed, want)
        area = other.mean((1, 2))
        # A quotient and 1 - x.
        np.testing.assert_allclose(
            shares(mixed_targets), 1 - area, rtol=0, atol=rounding(2)
        )
        rows, columns = other.any(2).sum(1), other.any(1).sum(1)
        np.testing.assert_array_equal(other.sum((1, 2)), rows * columns)
        areas.extend(area)
    assert len(set(areas)) > 15
    assert max(areas) > 0.5  # the border clips most of the large ones
    assert min(areas) == 0


@pytest.mark.parametrize("switch_prob", [0.0, 0.3, 1.0])
def test_switch(images, targets, switch_prob):
    cut = []
    plain = tf.cast(images, tf.float32).numpy()
    for seed in seeds(60):
        mixed, mixed_targets = mixup_cutmix(
            images, targets, seed, mixup_alpha=1.0, switch_prob=switch_prob
        )
        whole = (mixed.numpy() == plain) | (mixed.numpy() == plain[::-1])
        empty = shares(mixed_targets) == 1  # a box of less than two pixels
        cut.extend(whole.all((1, 2, 3))[~empty])
    deviation = (switch_prob * (1 - switch_prob) / 360) ** 0.5
    assert abs(np.mean(cut) - switch_prob) <= 4 * deviation


def test_no_mixing_at_all(images, targets):
    mixed, same = mixup_cutmix(
        images, targets, tf.constant([1, 2]), mixup_alpha=0, cutmix_alpha=0
    )
    assert mixed.dtype == tf.float32
    np.testing.assert_array_equal(mixed, images)
    np.testing.assert_array_equal(same, targets)


@pytest.mark.parametrize("switch_prob", [0.0, 1.0])
def test_what_is_no_image_and_its_partner_stay(images, targets, switch_prob):
    masked = targets * tf.constant([1.0, 0, 1, 1, 1, 1])[:, None]
    for seed in seeds(10):
        options = {"mixup_alpha": 1.0, "switch_prob": switch_prob}
        mixed, mixed_targets = mixup_cutmix(images, masked, seed, **options)
        free, free_targets = mixup_cutmix(images, targets, seed, **options)
        for i in (1, 4):
            np.testing.assert_array_equal(mixed[i], images[i])
            np.testing.assert_array_equal(mixed_targets[i], masked[i])
        for i in (0, 2, 3, 5):
            np.testing.assert_array_equal(mixed[i], free[i])
            np.testing.assert_array_equal(mixed_targets[i], free_targets[i])


@pytest.mark.parametrize(("layout", "patch_size"), FORMS)
def test_another_form_is_the_mixed_batch_rearranged(
    images, targets, layout, patch_size
):
    for seed in seeds(8):
        mixed, want_targets = mixup_cutmix(images, targets, seed)
        form = rearranged(images, layout, patch_size)
        got, got_targets = mixup_cutmix(
            form, targets, seed, layout=layout, patch_size=patch_size
        )
        np.testing.assert_array_equal(got, rearranged(mixed, layout, patch_size))
        np.testing.assert_array_equal(got_targets, want_targets)


def exactly_mixed(images, targets, seed) -> tuple[np.ndarray, np.ndarray]:
    """What mixup_cutmix makes of the same draws, in float64."""
    draws = mixing._uniform([5, BATCH], seed).numpy().astype(np.float64)
    cut = draws[0] < 0.5
    alpha = np.where(cut, 1.0, np.float32(0.2).astype(np.float64))
    power, cosine = draws[1] ** (1 / alpha), np.cos(2 * np.pi * draws[2])
    rest = power / (power + (1 - power) * cosine**2)
    smaller = 0.5 * rest / (1 + np.sqrt(1 - rest))
    weight = np.where(cosine < 0, smaller, 1 - smaller)
    area = tf.constant(np.where(cut, weight, 1), tf.float32)
    size = (HEIGHT, WIDTH)
    boxes = mixing.boxes(area, tf.constant(draws[3:], tf.float32), size).numpy()
    inside = np.zeros([BATCH, *size], bool)
    for image, (top, left, bottom, right) in zip(inside, boxes.T, strict=True):
        image[top:bottom, left:right] = True
    share = np.where(cut, 1.0, weight)
    kept = (share * (1 - inside.mean((1, 2))))[:, None]
    weight = np.where(inside, 0.0, share[:, None, None])[..., None]
    pixels, targets = (np.asarray(x, np.float64) for x in (images, targets))
    return (
        weight * pixels + (1 - weight) * pixels[::-1],
        kept * targets + (1 - kept) * targets[::-1],
    )


@pytest.mark.parametrize("layout_and_patch", [None, ("NHWC", 1), ("HWCN", 2)])
def test_equals_float64_compiled_by_xla_or_not(images, targets, layout_and_patch):
    layout, patch_size = layout_and_patch or ("NHWC", 1)

    def mixed(images, targets, seed):
        return mixup_cutmix(images, targets, seed, layout=layout, patch_size=patch_size)

    if layout_and_patch is not None:
        mixed = tf.function(mixed, jit_compile=True, autograph=False)
    form = rearranged(images, layout, patch_size)
    for seed in seeds(20):
        got, got_targets = mixed(form, targets, seed)
        want, want_targets = exactly_mixed(images, targets, seed)
        want = rearranged(tf.constant(want), layout, patch_size)
        assert got.shape == want.shape
        # 4 times the worst, which was the same eagerly and by XLA, with oneDNN and
        # without: 2^-15, two units in the last place of a pixel, and 2^-23.
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * 2.0**-15)
        np.testing.assert_allclose(got_targets, want_targets, rtol=0, atol=4 * 2.0**-23)


def test_a_function_of_the_seed_of_either_type(images, targets):
    first = mixup_cutmix(images, targets, tf.constant([1, 2]))
    for seed in (tf.constant([1, 2]), tf.constant([1, 2], tf.int64)):
        again = mixup_cutmix(images, targets, seed)
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
    other = mixup_cutmix(images, targets, tf.constant([1, 3]))
    assert not np.array_equal(first[1], other[1])


def test_smoothing_before_is_smoothing_after(images, targets):
    def smooth(values):
        return 0.9 * values + 0.1 / CLASSES

    for seed in seeds(5):
        _, before = mixup_cutmix(images, smooth(targets), seed)
        _, after = mixup_cutmix(images, targets, seed)
        # Each mixes by 1 - x, two products and a sum; smoothing is two more.
        want = smooth(after.numpy().astype(np.float64))
        np.testing.assert_allclose(before, want, rtol=0, atol=rounding(4 + 2 + 4))


def test_an_odd_batch_leaves_the_middle_one(images, targets):
    for seed in seeds(5):
        mixed, mixed_targets = mixup_cutmix(images[:5], targets[:5], seed)
        # Itself by its weight and by the rest: 1 - x, two products and a sum.
        np.testing.assert_allclose(mixed[2], images[2], rtol=0, atol=rounding(4, 255))
        np.testing.assert_allclose(
            mixed_targets[2], targets[2], rtol=0, atol=rounding(4)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup_alpha": -1}, "mixup_alpha = -1: it has to be a number from 0 to"),
        ({"cutmix_alpha": -0.5}, "cutmix_alpha = -0.5: it has to be"),
        ({"switch_prob": 2}, "switch_prob = 2: it has to be a number from 0 to 1"),
        ({"layout": "NCHW"}, "layout = 'NCHW': it has to be 'NHWC' or 'HWCN'"),
    ],
)
def test_options_that_mean_nothing(images, targets, options, message):
    with pytest.raises(UserError, match=message):
        mixup_cutmix(images, targets, tf.constant([1, 2]), **options)


@pytest.mark.slow
def test_boxes_are_filled_as_the_model_gardens():
    """On square images: on others its boxes have the height's width."""
    augment = pytest.importorskip("official.vision.ops.augment")
    pixels = np.random.RandomState(1).randint(0, 256, (32, 16, 16, 3))
    images = tf.constant(pixels, tf.float32)
    weight, y, x = tf.unstack(mixing._uniform([3, 32], tf.constant([3, 4])))
    boxes = mixing.boxes(weight, tf.stack([y, x]), (16, 16))
    mixture = Mixture(share=tf.ones([32]), box=boxes)
    got, _ = mixing.mix(images, tf.eye(32), mixture)
    for i in range(32):
        half = int(16 * np.sqrt(1 - weight[i])) // 2
        center_x, center_y = int(16 * x[i]), int(16 * y[i])
        want = augment._fill_rectangle(
            images[i], center_x, center_y, half, half, images[31 - i]
        )
        np.testing.assert_array_equal(got[i], want)
