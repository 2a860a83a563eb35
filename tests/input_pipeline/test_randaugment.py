import json
import lzma

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline import randaugment
from input_pipeline.errors import DataError
from tests.input_pipeline import plain_randaugment as plain
from tests.input_pipeline.builders import DATA, as_it_is

META = json.loads((DATA / "randaugment.json").read_text())
CENTER = tuple(META["cutout_center"])
NAMES = META["images"][1:]
# Of each op at seven magnitudes: how far the reference's output on the golden image is
# from the input, the largest and the mean difference in grey levels.
DISTANCES = json.loads((DATA / "randaugment_distances.json").read_text())


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
    results = images.map(
        as_it_is(lambda im: {name: apply_named(im, name) for name in NAMES})
    )
    return {k: v.numpy() for k, v in next(iter(results)).items()}


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference_bit_for_bit(golden, mapped, name):
    eager = apply_named(tf.constant(golden["image"]), name)
    np.testing.assert_array_equal(eager.numpy(), golden[name])
    np.testing.assert_array_equal(mapped[name], golden[name])


def test_every_op_has_goldens_at_two_magnitudes():
    for op in randaugment.OP_NAMES:
        magnitudes = {n.split("_")[1] for n in NAMES if n.split("_")[0] == op}
        assert magnitudes == {"M10", "M27"}


def test_is_as_far_from_the_input_as_the_reference_at_every_magnitude(golden):
    image = golden["image"].astype(int)
    for name, want in DISTANCES.items():
        moved = apply_named(tf.constant(golden["image"]), name).numpy()
        distance = np.abs(moved.astype(int) - image)
        assert [distance.max(), distance.mean()] == pytest.approx(want, rel=1e-12), name
    assert len(DISTANCES) == 7 * 21


def kinds(height: int, width: int) -> np.ndarray:
    """Images of the kinds that arithmetic may treat differently, uint8[6, H, W, 3]."""
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([60 + 2 * x + y, 200 - 3 * y, 90 + x], axis=2) % 256
    flat = np.full_like(noise, 77)
    half_flat = np.where(np.arange(3) == 1, 255, 30 + noise // 3)
    images = [noise, smooth, smooth // 64 * 64, flat, half_flat, noise // 255 * 255]
    return np.array(images, np.uint8)


def fast_and_plain(images, magnitudes, names, **options):
    """Ops, in one tf.data graph per magnitude, beside the plain ones."""
    height, width = images.shape[1:3]
    center = (height // 3, width - 1)
    keys = [(name, sign) for name in names for sign in (1, -1)]
    for magnitude in magnitudes:

        def apply_all(image, signs, magnitude=magnitude):
            # Signs that the graph can't know, as in rand_augment.
            return [
                randaugment.apply_op(
                    image, name, magnitude, signs[(1 - sign) // 2], center, **options
                )
                for name, sign in keys
            ]

        signs = np.tile([1, -1], (len(images), 1))
        mapped = tf.data.Dataset.from_tensor_slices((images, signs)).map(
            as_it_is(lambda image, signs, f=apply_all: tuple(f(image, signs)))
        )
        for image, fast in zip(images, mapped.as_numpy_iterator(), strict=True):
            for (name, sign), got in zip(keys, fast, strict=True):
                want = plain.apply_op(
                    tf.constant(image), name, magnitude, sign, center, **options
                )
                yield f"{name} M{magnitude} sign {sign}", got, want.numpy()


def assert_fast_equals_plain(
    images: np.ndarray, magnitudes: list[float], names=randaugment.OP_NAMES, **options
):
    for what, got, want in fast_and_plain(images, magnitudes, names, **options):
        np.testing.assert_array_equal(got, want, err_msg=what)


@pytest.mark.parametrize(
    ("size", "magnitudes"),
    [((32, 48), [0, 17]), ((19, 23), [10]), ((2, 2), [10]), ((3, 5), [9.33])],
)
def test_equals_the_plain_ops_bit_for_bit(size, magnitudes):
    assert_fast_equals_plain(kinds(*size), magnitudes)


def test_other_constants_of_translate_and_cutout():
    assert_fast_equals_plain(
        kinds(24, 20),
        [1, 3],
        ("TranslateX", "TranslateY", "Cutout"),
        translate_const=25.0,
        cutout_const=100.0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (97, 131), (2, 7), (7, 2), (5, 300)])
def test_equals_the_plain_ops_at_many_magnitudes(size):
    magnitudes = [0, 0.5, 3, 5, 7, 9, 10, 12, 15, 17, 22.5, 27, 28, 30]
    assert_fast_equals_plain(kinds(*size), magnitudes)


@pytest.mark.slow
def test_color_equals_the_plain_op_for_every_colour():
    levels = np.arange(256, dtype=np.uint8)
    green_blue = np.stack(np.meshgrid(levels, levels), axis=2)

    def image(red):
        return np.insert(green_blue, 0, red, axis=2)

    colours = tf.data.Dataset.range(256).map(
        lambda red: tf.concat(
            [tf.fill([256, 256, 1], tf.cast(red, tf.uint8)), green_blue], axis=2
        )
    )
    fast = colours.map(lambda image: randaugment.apply_op(image, "Color", 10))
    for red, got in enumerate(fast.as_numpy_iterator()):
        want = plain.apply_op(tf.constant(image(red)), "Color", 10, 1, (0, 0))
        np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_rotation_equals_the_plain_op_at_many_angles():
    image = tf.constant(kinds(61, 83)[0])
    for magnitude in np.random.RandomState(1).uniform(0, 30, 300).tolist():
        for name in ("Rotate", "ShearX", "ShearY", "TranslateX"):
            got = randaugment.apply_op(image, name, magnitude, -1)
            want = plain.apply_op(image, name, magnitude, -1, (0, 0))
            np.testing.assert_array_equal(got, want, err_msg=f"{name} M{magnitude}")


def test_random_layers_equal_the_plain_ops_of_the_same_draws():
    image = tf.constant(kinds(40, 56)[1])
    mapped = tf.data.Dataset.range(60).map(
        as_it_is(
            lambda i: randaugment.rand_augment(
                image, tf.stack([3, i]), num_layers=2, magnitude=17
            )
        )
    )
    for i, got in enumerate(mapped.as_numpy_iterator()):
        want = plain.rand_augment(image, tf.constant([3, i], tf.int64), 2, 17)
        np.testing.assert_array_equal(got, want, err_msg=f"seed {i}")


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
    with pytest.raises(DataError, match=r"'ShearZ': did you mean ShearX or ShearY"):
        randaugment.apply_op(tf.zeros([8, 8, 3], tf.uint8), "ShearZ", 10)


@pytest.fixture
def drawn(monkeypatch):
    """Function: the numbers of the ops that are drawn by so many seeds."""
    for i, name in enumerate(randaugment.OP_NAMES):

        def paint(im, level, draw, i=i):
            return tf.fill(im.shape, tf.cast(i, tf.uint8))

        monkeypatch.setitem(randaugment._OPS, name, randaugment._Op(paint))

    def draw(count, **options):
        def one(index):
            image, seed = tf.zeros([2, 2, 3], tf.uint8), tf.stack([7, index])
            painted = randaugment.rand_augment(image, seed, num_layers=1, **options)
            return painted[0, 0, 0]

        draws = tf.data.Dataset.range(count).map(as_it_is(one))
        numbers = list(draws.as_numpy_iterator())
        assert numbers == list(draws.as_numpy_iterator())
        return numbers

    return draw


def test_some_ops_are_drawn_from_with_equal_chances(drawn):
    counts = np.bincount(drawn(300, ops=["ShearY", "Rotate", "ShearX"]), minlength=16)
    numbers = [randaugment.OP_NAMES.index(n) for n in ("ShearY", "Rotate", "ShearX")]
    assert counts[numbers].sum() == 300
    assert counts[numbers].min() >= 60  # 100 expected, standard deviation 8
    assert set(drawn(9, ops=("Invert",))) == {randaugment.OP_NAMES.index("Invert")}


@pytest.mark.parametrize("ops", [[], ["Rotat"], "Rotate", [1]])
def test_ops_that_are_none_are_refused(ops):
    with pytest.raises(UserError, match=r"rand_augment\.ops = .*AutoContrast, Equal"):
        randaugment.rand_augment(
            tf.zeros([8, 8, 3], tf.uint8), tf.constant([0, 0]), ops=ops
        )


def test_random_ops_are_a_function_of_the_seed_and_reach_every_op(drawn):
    counts = np.bincount(drawn(640), minlength=16)
    assert len(counts) == 16
    assert counts.min() >= 20  # 40 expected, standard deviation 6
    assert counts.max() <= 60


def test_static_shape_and_layers_inside_a_map(golden):
    images = tf.data.Dataset.range(12).map(
        as_it_is(
            lambda i: randaugment.rand_augment(
                tf.constant(golden["image"]),
                tf.stack([1, i]),
                num_layers=2,
                magnitude=10,
            )
        )
    )
    assert images.element_spec == tf.TensorSpec([224, 224, 3], tf.uint8)
    first = [x.tobytes() for x in images.as_numpy_iterator()]
    assert first == [x.tobytes() for x in images.as_numpy_iterator()]
    assert len(set(first)) >= 9  # two draws may agree: most ops have no sign
