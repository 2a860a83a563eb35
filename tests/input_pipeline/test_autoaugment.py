import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from input_pipeline import autoaugment, randaugment
from input_pipeline.autoaugment import POLICIES, auto_augment
from input_pipeline.randaugment import OP_NAMES, apply_op
from tests.input_pipeline.builders import as_it_is

GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def augment_many(image: tf.Tensor, policy: str, count: int) -> list[np.ndarray]:
    """One result for each of the seeds (7, 0), (7, 1), ..."""
    images = tf.data.Dataset.range(count).map(
        as_it_is(lambda i: auto_augment(image, tf.stack([7, i]), policy=policy))
    )
    assert images.element_spec == tf.TensorSpec(image.shape, tf.uint8)
    return list(images.as_numpy_iterator())


@pytest.mark.parametrize(
    ("policy", "probabilities", "magnitudes", "equalize"),
    [("v0", 29.8, 240, 12), ("reduced_imagenet", 31.0, 287, 17)],
)
def test_tables(policy, probabilities, magnitudes, equalize):
    steps = list(itertools.chain(*POLICIES[policy]))
    assert len(POLICIES[policy]) == 25
    assert len(steps) == 50
    names = [name for name, _, _ in steps]
    assert set(names) < set(OP_NAMES)
    assert names.count("Equalize") == equalize
    assert sum(p for _, p, _ in steps) == pytest.approx(probabilities)
    assert sum(m for _, _, m in steps) == magnitudes


@pytest.mark.slow
def test_tables_are_the_model_gardens():
    augment = pytest.importorskip("official.vision.ops.augment")
    for policy, table in POLICIES.items():
        garden = getattr(augment.AutoAugment, f"policy_{policy}")()
        assert [list(steps) for steps in table] == garden


def outcomes(policy: str) -> dict[tuple, float]:
    """Probability of every sequence of (op, magnitude) that a policy can apply."""
    chances = collections.defaultdict(float)
    for steps in POLICIES[policy]:
        for applied in itertools.product([True, False], repeat=2):
            chance = 1 / 25
            for (_, p, _), does in zip(steps, applied, strict=True):
                chance *= p if does else 1 - p
            ops = tuple(
                autoaugment._at_level(step)[:2]
                for step, does in zip(steps, applied, strict=True)
                if does
            )
            chances[ops] += chance
    return {ops: chance for ops, chance in chances.items() if chance}


@pytest.fixture
def painted(monkeypatch) -> list[tuple[str, int]]:
    """Replaces what applies an op by what writes down what it was to do.

    The image has one column for each step; a step moves the columns left and writes
    1 + the op's place in the returned list, the direction, and Cutout's centre.
    """
    ops: list[tuple[str, int]] = []

    def paint(op, image, draw):
        assert (op.translate_const, op.cutout_const) == (250, 100)
        ops.append((op.name, op.magnitude))
        sign, center = tf.cast(draw.sign, tf.int32), tf.unstack(draw.center)
        column = tf.stack([len(ops), sign + 1, *center])
        column = tf.cast(column, tf.uint8)[:, None, None] * tf.ones([1, 1, 3], tf.uint8)
        return tf.concat([image[:, 1:], column], axis=1)

    monkeypatch.setattr(randaugment, "_applied", paint)
    return ops


def test_steps_are_applied_in_order_and_as_often_as_the_policy_says(painted):
    count = 6000
    images = augment_many(tf.zeros([4, 2, 3], tf.uint8), "v0", count)
    assert len(painted) == len(set(painted)) == 31  # each is built once

    drawn = collections.Counter(
        tuple(painted[i - 1] for i in image[0, :, 0] if i) for image in images
    )
    expected = outcomes("v0")
    assert drawn.keys() <= expected.keys()
    for ops, chance in expected.items():
        deviation = (count * chance * (1 - chance)) ** 0.5
        assert abs(drawn[ops] - count * chance) < 4.5 * deviation, ops

    applied = np.concatenate([image[:, image[0, :, 0] > 0, 0].T for image in images])
    signs, rows, columns = applied[:, 1], applied[:, 2], applied[:, 3]
    assert set(signs) == {0, 2}
    assert abs(signs.mean() - 1) < 0.05
    np.testing.assert_allclose(np.bincount(rows) / len(rows), [1 / 4] * 4, atol=0.03)
    np.testing.assert_allclose(np.bincount(columns) / len(rows), [0.5] * 2, atol=0.03)


def photo() -> tf.Tensor:
    """Smooth and noisy at once, so that every op changes it; 24 x 20 pixels."""
    ramp = np.linspace(40, 150, 24 * 20 * 3).reshape(24, 20, 3)
    noise = np.random.RandomState(0).randint(0, 60, ramp.shape)
    return tf.constant((ramp + noise).astype(np.uint8))


def possible(policy: str) -> set[bytes]:
    """The bytes of every image that a policy can make of the photo."""

    def after(image: tf.Tensor, op: tuple[str, int]) -> list[tf.Tensor]:
        signs = (1, -1) if op[0] in GEOMETRIC else (1,)
        return [apply_op(image, *op, sign, translate_const=250) for sign in signs]

    images = set()
    for ops in outcomes(policy):
        results = [photo()]
        for op in ops:
            results = [new for image in results for new in after(image, op)]
        images.update(image.numpy().tobytes() for image in results)
    return images


@pytest.mark.long
@pytest.mark.parametrize("policy", POLICIES)
def test_every_result_is_one_that_the_policy_can_make(policy):
    images = [image.tobytes() for image in augment_many(photo(), policy, 60)]
    assert set(images) <= possible(policy)
    assert len(set(images)) >= 20
    assert images == [image.tobytes() for image in augment_many(photo(), policy, 60)]


def test_eager_equals_mapped_for_either_type_of_seed():
    (mapped,) = augment_many(photo(), "v0", 1)
    for dtype in (tf.int32, tf.int64):
        eager = auto_augment(photo(), tf.constant([7, 0], dtype))
        np.testing.assert_array_equal(eager, mapped)


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(
        UserError, match="'v1': it has to be 'v0' or 'reduced_imagenet'"
    ):
        auto_augment(photo(), tf.constant([1, 2]), policy="v1")
