import json
import lzma

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import randaugment
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import DATA

META = json.loads((DATA / "randaugment.json").read_text())
CENTER = tuple(META["cutout_center"])
NAMES = META["images"][1:]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with lzma.open(DATA / "randaugment.npy.xz") as file:
        return dict(zip(META["images"], np.load(file), strict=True))


def apply_named(image: tf.Tensor, name: str) -> tf.Tensor:
    """Applies e.g. "Rotate_M27_neg"."""
    op, magnitude, *direction = name.split("_")
    sign = -1 if direction == ["neg"] else 1
    return randaugment.apply_op(image, op, float(magnitude[1:]), sign, CENTER)


@pytest.fixture(scope="module")
def mapped(golden) -> dict[str, np.ndarray]:
    """Every golden op in one tf.data graph."""
    images = tf.data.Dataset.from_tensors(golden["image"])
    results = images.map(lambda im: {name: apply_named(im, name) for name in NAMES})
    return {k: v.numpy() for k, v in next(iter(results)).items()}


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference_bit_for_bit(golden, mapped, name):
    eager = apply_named(tf.constant(golden["image"]), name)
    np.testing.assert_array_equal(eager.numpy(), golden[name])
    np.testing.assert_array_equal(mapped[name], golden[name])


def test_every_op_has_goldens_at_two_magnitudes():
    for op in randaugment.OP_NAMES:
        magnitudes = {n.split("_")[1] for n in NAMES if n.split("_")[0] == op}
        assert magnitudes == {"M10", "M27"}


def dull_image(height=24, width=20) -> np.ndarray:
    """Grey levels 50..177: unlike the golden image it has contrast to gain."""
    random = np.random.RandomState(0)
    return random.randint(50, 178, (height, width, 3)).astype(np.uint8)


def test_auto_contrast_stretches_each_channel():
    image = dull_image()
    image[:, :, 2] = 7  # a flat channel stays
    pixels = image.astype(np.float32)
    low, high = pixels[:, :, :2].min((0, 1)), pixels[:, :, :2].max((0, 1))
    scale = np.float32(255) / (high - low)
    want = image.copy()
    want[:, :, :2] = np.clip(pixels[:, :, :2] * scale - low * scale, 0, 255)
    got = randaugment.apply_op(tf.constant(image), "AutoContrast", 10)
    np.testing.assert_array_equal(got, want)
    assert got.numpy()[:, :, :2].max() == 255


def test_equalize_leaves_an_image_of_too_few_pixels():
    image = tf.constant(dull_image(8, 8))  # 64 pixels: less than one per level
    got = randaugment.apply_op(image, "Equalize", 10)
    np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_enhancing_by_factor_one_changes_nothing(name):
    image = tf.constant(dull_image())
    got = randaugment.apply_op(image, name, 5)  # 0.5 * 1.8 + 0.1
    np.testing.assert_array_equal(got, image)


def test_cutout_is_centred_unless_told():
    got = randaugment.apply_op(tf.zeros([8, 10, 3], tf.uint8), "Cutout", 0.5).numpy()
    want = np.zeros([8, 10, 3], np.uint8)
    want[2:6, 3:7] = 128
    np.testing.assert_array_equal(got, want)


def test_an_unknown_op_names_its_neighbours():
    with pytest.raises(DataError, match=r"'ShearZ': did you mean Shear. or Shear."):
        randaugment.apply_op(tf.zeros([8, 8, 3], tf.uint8), "ShearZ", 10)


def test_random_ops_are_a_function_of_the_seed_and_reach_every_op(monkeypatch):
    for i, name in enumerate(randaugment.OP_NAMES):

        def paint(im, level, draw, i=i):
            return tf.fill(im.shape, tf.cast(i, tf.uint8))

        monkeypatch.setitem(randaugment._OPS, name, paint)

    def draw(index):
        image = tf.zeros([2, 2, 3], tf.uint8)
        return randaugment.rand_augment(image, tf.stack([7, index]), num_layers=1)[
            0, 0, 0
        ]

    draws = tf.data.Dataset.range(640).map(draw)
    drawn = list(draws.as_numpy_iterator())
    assert drawn == list(draws.as_numpy_iterator())
    counts = np.bincount(drawn, minlength=16)
    assert len(counts) == 16
    assert counts.min() >= 20  # 40 expected, standard deviation 6
    assert counts.max() <= 60


def test_static_shape_and_layers_inside_a_map(golden):
    images = tf.data.Dataset.range(12).map(
        lambda i: randaugment.rand_augment(
            tf.constant(golden["image"]), tf.stack([1, i]), num_layers=2, magnitude=10
        )
    )
    assert images.element_spec == tf.TensorSpec([224, 224, 3], tf.uint8)
    first = [x.tobytes() for x in images.as_numpy_iterator()]
    assert first == [x.tobytes() for x in images.as_numpy_iterator()]
    assert len(set(first)) >= 9  # two draws may agree: most ops have no sign
