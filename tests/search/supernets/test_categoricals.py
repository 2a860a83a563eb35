"""Distributions over the choices of a space, against plain enumeration."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from search import spaces
from search.networks.layout import Layout
from search.supernets.categoricals import Categoricals
from search.supernets.selection import Selection

# 2.se_ratio counts with MBConv alone; 3.kernel_size only if 2.se_ratio is 0.25.
SPACE = spaces.blocks(
    "efficientnet-x-b0",
    {
        2: {"fused": [False, True], "se_ratio": [0, 0.25]},
        3: {"kernel_size": [3, 5, 7], "output_filters_factor": [1, 2, 0.5]},
    },
    when={
        "2.se_ratio": {"2.fused": [False]},
        "3.kernel_size": {"2.se_ratio": [0.25]},
    },
)
CHOICES = Categoricals(SPACE)
NAMES = [choice.name for choice in SPACE.choices]
SIZES = [len(choice.values) for choice in SPACE.choices]
EVERY = list(itertools.product(*map(range, SIZES)))
LOGITS = np.random.default_rng(0).normal(size=CHOICES.shape).astype(np.float32)
# A sum of at most four logarithms, each of the order of 1, in float32.
EXACT = 16 * 2.0**-24


def matrix(network):
    return np.eye(CHOICES.shape[1], dtype=np.float32)[list(network)]


def probabilities(logits):
    """float64, of each choice, without padding."""
    rows = [
        row[:size].astype(np.float64) for row, size in zip(logits, SIZES, strict=True)
    ]
    return [np.exp(row) / np.exp(row).sum() for row in rows]


def by_network(logits):
    """The probability of each network, from all draws that settle to it."""
    chances, found = probabilities(logits), {}
    layout = Layout(SPACE.choices)
    for draw in EVERY:
        settled = tuple(
            index if counts else 0
            for index, counts in zip(draw, layout.active(draw), strict=True)
        )
        chance = math.prod(p[index] for p, index in zip(chances, draw, strict=True))
        found[settled] = found.get(settled, 0) + chance
    return found


def test_the_space():
    assert NAMES == [
        "2.fused",
        "2.se_ratio",
        "3.kernel_size",
        "3.output_filters_factor",
    ]
    assert CHOICES.shape == (4, 3)
    assert len(by_network(LOGITS)) == SPACE.count() == 3 * (1 + 1 + 3)


@pytest.mark.parametrize("draw", EVERY)
def test_choices_that_do_not_count_have_their_first_value(draw):
    weights, active = CHOICES.settled(tf.constant(matrix(draw)))
    expected = [True, draw[0] == 0, draw[0] == 0 and draw[1] == 1, True]
    assert active.numpy().tolist() == expected
    pairs = zip(draw, expected, strict=True)
    settled = tuple(i if counts else 0 for i, counts in pairs)
    assert weights.numpy().tolist() == matrix(settled).tolist()
    selection = Selection(SPACE)
    assert CHOICES.flat(weights).numpy().tolist() == selection.of(settled).tolist()


def test_likeliest():
    def likeliest(logits):
        return np.argmax(CHOICES.likeliest(tf.constant(logits)), axis=1).tolist()

    logits = np.zeros(CHOICES.shape, np.float32)
    assert likeliest(logits) == [0, 0, 0, 0]
    logits[1, 1] = logits[2, 2] = logits[3, 2] = 0.1
    assert likeliest(logits) == [0, 1, 2, 2]
    logits[0, 1] = 0.1  # fused: neither of the two that hang on it counts
    assert likeliest(logits) == [1, 0, 0, 2]


def test_score_is_the_gradient_of_the_logarithm():
    """Of a network's probability, by central differences in float64."""
    networks, step = by_network(LOGITS), 1e-5
    for network in networks:
        weights, active = CHOICES.settled(tf.constant(matrix(network)))
        score = CHOICES.score(tf.constant(LOGITS), weights, active).numpy()
        for place, index in itertools.product(*map(range, CHOICES.shape)):
            moved = []
            for sign in (1, -1):
                logits = LOGITS.astype(np.float64)
                logits[place, index] += sign * step
                moved.append(math.log(by_network(logits)[network]))
            # The third derivative of a logarithm of softmax is below 1.
            expected = (moved[0] - moved[1]) / (2 * step)
            assert score[place, index] == pytest.approx(expected, abs=EXACT + step**2)


def test_entropy_is_that_of_the_networks():
    chances = np.array(list(by_network(LOGITS).values()))
    assert chances.sum() == pytest.approx(1)
    expected = -(chances * np.log(chances)).sum()
    assert float(CHOICES.entropy(tf.constant(LOGITS))) == pytest.approx(
        expected, abs=EXACT
    )
    zeros = tf.zeros(CHOICES.shape)
    expected = math.log(2) + 0.5 * math.log(2) + math.log(3) + 0.25 * math.log(3)
    assert float(CHOICES.entropy(zeros)) == pytest.approx(expected, abs=EXACT)


def test_gradient_of_the_entropy():
    def entropy(logits):
        chances = np.array(list(by_network(logits).values()))
        return -(chances * np.log(chances)).sum()

    found, step = CHOICES.entropy_gradient(tf.constant(LOGITS)).numpy(), 1e-5
    for place, index in itertools.product(*map(range, CHOICES.shape)):
        moved = []
        for sign in (1, -1):
            logits = LOGITS.astype(np.float64)
            logits[place, index] += sign * step
            moved.append(entropy(logits))
        expected = (moved[0] - moved[1]) / (2 * step)
        assert found[place, index] == pytest.approx(expected, abs=EXACT + 10 * step**2)


def test_draws_have_the_probabilities():
    """10,000 draws: each share within 5 standard deviations."""
    number = 10_000

    @tf.function
    def draws():
        seeds = tf.stack([tf.range(number), tf.range(number) * 7], axis=1)
        return tf.vectorized_map(
            lambda seed: CHOICES.draw(tf.constant(LOGITS), seed),
            seeds,
            fallback_to_while_loop=True,
        )

    found = draws().numpy()
    assert np.all(found.sum(axis=2) == 1)
    shares = found.mean(axis=0)
    for row, expected in zip(shares, probabilities(LOGITS), strict=True):
        sd = np.sqrt(expected * (1 - expected) / number)
        assert np.all(np.abs(row[: len(expected)] - expected) < 5 * sd)
        assert np.all(row[len(expected) :] == 0)


@pytest.mark.parametrize("operations", [False, True])
@pytest.mark.parametrize("sizes", [False, True])
def test_warm_up(operations, sizes):
    """fused and kernel_size are operations; SE and filters are sizes."""
    drawn = tf.constant(matrix([1, 0, 1, 2]))
    found = CHOICES.warmed_up(drawn, tf.constant(operations), tf.constant(sizes))
    third = np.float32(1 / 3)
    assert found.numpy().tolist() == [
        [0.5, 0.5, 0] if operations else [0, 1, 0],
        [0, 1, 0] if sizes else [1, 0, 0],
        [third] * 3 if operations else [0, 1, 0],
        [0, 1, 0] if sizes else [0, 0, 1],
    ]
    weights, active = CHOICES.settled(found)
    # With all operations mixed MBConv is a part of it, so its SE counts.
    assert active.numpy().tolist() == [1, operations, operations and sizes, 1]
    assert np.all(weights.numpy().sum(axis=1) == pytest.approx(1))
