"""Ops of RandAugment in one op: what TensorFlow's several make, bit for bit."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.autoaugment import POLICIES, auto_augment
from input_pipeline.fused import check, library
from input_pipeline.randaugment import (
    OP_NAMES,
    AtLevel,
    in_turn,
    rand_augment,
)
from tests.input_pipeline.builders import as_it_is

MAGNITUDES = (0, 1, 5, 10, 15, 22.5, 23, 28, 31, 100)
SIDES = [(1, 1), (2, 3), (5, 7), (33, 48)]


def pictures(height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(height * 100 + width)
    ramp = np.linspace(40, 210, height * width * 3).reshape(height, width, 3)
    noise = rng.randint(0, 256, ramp.shape)
    few = np.array([0, 90, 255])[rng.randint(0, 3, ramp.shape)]
    return {
        "noise": noise.astype(np.uint8),
        "slope": (ramp + noise / 8).astype(np.uint8),
        "few levels": few.astype(np.uint8),
        "black": np.zeros(ramp.shape, np.uint8),
        "white": np.full(ramp.shape, 255, np.uint8),
    }


def both(ops, image, steps, chosen, draws) -> tuple[np.ndarray, np.ndarray]:
    """Of the fused op, and of TensorFlow's, one after another."""
    draws = np.float32(draws).reshape(-1, 3)
    with library.use(ops):
        got = in_turn(
            tf.constant(image), steps, tf.constant(chosen, tf.int32), tf.constant(draws)
        )
    return got.numpy(), check.one_by_one(image, steps, chosen, draws).numpy()


def test_each_op_is_tensorflows(ops):
    each_op_is_tensorflows(ops, 15, SIDES[-1:])


@pytest.mark.long
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_each_op_of_each_size_is_tensorflows(ops, magnitude):
    """6,400 cases, of the smallest sizes, of one level and of all."""
    each_op_is_tensorflows(ops, magnitude, SIDES)


def each_op_is_tensorflows(ops, magnitude, sides):
    steps = [AtLevel(name, magnitude) for name in OP_NAMES]
    draws = [[0.2, 0.0, 0.999], [0.8, 0.5, 0.4]]  # forth, back; centres
    for side in sides:
        for (name, image), step, draw in itertools.product(
            pictures(*side).items(), steps, draws
        ):
            got, want = both(ops, image, [step], [0], [draw])
            np.testing.assert_array_equal(got, want, f"{step} of {name} {side} {draw}")


@pytest.mark.long
@pytest.mark.parametrize("first", OP_NAMES)
def test_ops_behind_one_another_are_tensorflows(ops, first):
    """Tables are put together: 16 x 16 pairs, a third behind them."""
    image = pictures(40, 31)["slope"]
    draws = [[0.9, 0.3, 0.7], [0.1, 0.9, 0.1], [0.6, 0.5, 0.5]]
    for magnitude in (3, 10, 28):
        for number, second in enumerate(OP_NAMES):
            third = OP_NAMES[(number + 5) % len(OP_NAMES)]
            steps = [AtLevel(name, magnitude) for name in (first, second, third)]
            got, want = both(ops, image, steps, [0, 1, 2], draws)
            np.testing.assert_array_equal(got, want, f"{steps}")


def test_no_op_and_none_at_all(ops):
    image = pictures(5, 7)["noise"]
    for chosen in ([], [1], [1, 1, 1]):
        draws = np.full([len(chosen), 3], 0.5)
        got, want = both(ops, image, [AtLevel("Invert", 1), None], chosen, draws)
        np.testing.assert_array_equal(got, image)
        np.testing.assert_array_equal(want, image)


@pytest.mark.long
@pytest.mark.parametrize(
    "augment",
    [
        as_it_is(lambda image, seed: rand_augment(image, seed)),
        as_it_is(lambda im, seed: rand_augment(im, seed, num_layers=3, magnitude=28)),
        *(
            as_it_is(lambda im, seed, p=policy: auto_augment(im, seed, policy=p))
            for policy in POLICIES
        ),
    ],
    ids=["10", "28", *POLICIES],
)
def test_thousands_of_drawn_augmentations_are_tensorflows(ops, augment):
    """2,000 of each kind, inside a map, as training has them."""
    image = tf.constant(pictures(61, 56)["slope"])

    def augmented(index):
        return augment(image, tf.stack([3, index]))

    with library.use(ops):
        fused = tf.data.Dataset.range(2000).map(as_it_is(augmented))
    plain = tf.data.Dataset.range(2000).map(as_it_is(augmented))
    different = 0
    for got, want in zip(
        fused.as_numpy_iterator(), plain.as_numpy_iterator(), strict=True
    ):
        different += not np.array_equal(got, want)
    assert different == 0


def call(module, **changes):
    arguments = {
        "image": tf.zeros([4, 5, 3], tf.uint8),
        "chosen": tf.constant([0]),
        "draws": tf.zeros([1, 3]),
        "sources": tf.ones([2, 20], tf.int32),
        "ops": "ShearX,Invert",
        "parameters": [0.3, 0.0],
        "tables": [0, 0],
        **changes,
    }
    return module.efficientnetx_augment(**arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": tf.zeros([4, 5, 4], tf.uint8)}, r"image has the shape \[H, W, 3\]"),
        ({"chosen": tf.constant([[0]])}, "chosen"),
        ({"chosen": tf.constant([2])}, "no such op: 2"),
        ({"chosen": tf.constant([-1])}, "no such op: -1"),
        ({"draws": tf.zeros([2, 3])}, "draws has the shape"),
        ({"draws": tf.constant([[np.nan, 0.0, 0.0]])}, "draws lie within"),
        ({"draws": tf.constant([[0.0, 1e20, 0.0]])}, "draws lie within"),
        ({"sources": tf.ones([2, 19], tf.int32)}, "sources"),
        ({"tables": [2, 0]}, "no such table: 2"),
        ({"tables": [-5, 0]}, "no such table: -5"),
        ({"ops": "ShearX,Shears"}, "unknown op"),
        ({"parameters": [0.0]}, "each op has a parameter"),
        ({"tables": [0]}, "each op has a parameter"),
        ({"sources": tf.fill([2, 20], 21)}, "sources name pixels"),
        ({"sources": tf.fill([2, 20], -1)}, "sources name pixels"),
    ],
)
def test_what_makes_no_sense_is_refused(ops, changes, said):
    assert call(ops).numpy().shape == (4, 5, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        call(ops, **changes)
