"""The controller on problems whose best network is known, scored by noisy batches.

A million networks, ten choices of four values. The points of a network are 80 minus a
loss of each value and of each pair of neighbours; a batch tells them as the share of
100 images, so with a standard deviation of 4 points. Random search scores as many
networks, by batches of the same size.
"""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from search import spaces
from search.controller import Reinforce, Schedule
from search.objectives import OneSided
from search.supernets.costs import Costs, Table
from search.supernets.selection import Selection
from train.distribution.replica import MicroBatch, ReplicaSeedGenerator

BEST, IMAGES = 80.0, 100
REPLICAS, STEPS = 4, 5_000  # networks of a step, steps
CHOICES, VALUES = 10, 4
_FIELDS = {"kernel_size": [3, 5, 7, 9], "output_filters_factor": [0.5, 1, 1.5, 2]}
SPACE = spaces.blocks("efficientnet-x-b0", dict.fromkeys(range(2, 7), _FIELDS))
FREE = Costs((Table((), np.array(1.0)),), "none", 1, 0, 0.0)


@dataclasses.dataclass(frozen=True)
class Planted:
    """Losses in points, of values [C, V] and of neighbours [C - 1, V, V]."""

    single: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, seed):
        rng = np.random.default_rng(seed)
        return cls(
            rng.exponential(1.0, (CHOICES, VALUES)),
            rng.exponential(0.5, (CHOICES - 1, VALUES, VALUES)),
        )

    def least(self):
        """The least loss of all networks, choice by choice."""
        best = self.single[0]
        for pair, single in zip(self.pairs, self.single[1:], strict=True):
            best = (best[:, None] + pair).min(axis=0) + single
        return float(best.min())

    def points(self, networks):
        """Of int[N, C]."""
        found = np.full(len(networks), BEST + self.least())
        for place in range(CHOICES):
            found -= self.single[place][networks[:, place]]
        for place in range(CHOICES - 1):
            found -= self.pairs[place][networks[:, place], networks[:, place + 1]]
        return found


def train(planted, seed):
    """Returns the likeliest network at the end; all in one graph."""
    step = tf.Variable(0, dtype=tf.int64)
    micro_batch = MicroBatch(REPLICAS)
    make = functools.partial(ReplicaSeedGenerator, step=step, micro_batch=micro_batch)
    objective, schedule = OneSided(target_ms=1.0), Schedule.of(STEPS)
    policy = Reinforce(SPACE, objective, FREE, schedule, make, seed=seed)
    single = tf.constant(planted.single, tf.float32)
    pairs = tf.constant(planted.pairs, tf.float32)
    best = tf.constant(BEST + planted.least(), tf.float32)

    def hits(selection, noise):
        """Images of a batch that are found, of 100."""
        weights = tf.reshape(selection, [CHOICES, VALUES])
        of_pairs = tf.einsum("ci,cij,cj->", weights[:-1], pairs, weights[1:])
        share = (best - tf.reduce_sum(weights * single) - of_pairs) / 100
        found = tf.random.stateless_uniform([IMAGES], noise) < share
        return tf.math.count_nonzero(found, dtype=tf.float32)

    @tf.function(jit_compile=False)
    def run():
        for _ in tf.range(STEPS):
            sums = policy.zeros()
            for number in range(REPLICAS):
                micro_batch.number = number
                chosen = policy.draw(step)
                noise = tf.stack([seed + 1000 * (number + 1), tf.cast(step, tf.int32)])
                found = hits(chosen.selection, noise)
                shares = policy.shares(chosen, found, tf.constant(float(IMAGES)))
                sums = [tf.add(*pair) for pair in zip(sums, shares, strict=True)]
            policy.update([], [value / REPLICAS for value in sums], step)
            step.assign_add(1)

    run()
    probabilities = policy.numbers()["probabilities"].numpy()
    return Selection(SPACE).network(probabilities)


def at_random(planted, seed):
    """Returns the points of the one that batches like best, and of the best one."""
    rng = np.random.default_rng(10_000 + seed)
    networks = rng.integers(VALUES, size=(REPLICAS * STEPS, CHOICES))
    points = planted.points(networks)
    scored = rng.binomial(IMAGES, points.clip(0) / 100)
    return float(points[scored.argmax()]), float(points.max())


def result(seed):
    planted = Planted.of(seed)
    network = train(planted, seed)
    (points,) = planted.points(np.array([network]))
    return (float(points), *at_random(planted, seed))


def assert_found(results):
    print("\npoints below the best: controller, random search, best of its networks")
    for seed, row in results.items():
        print(f"  seed {seed:2}: {', '.join(f'{BEST - one:5.2f}' for one in row)}")
    for seed, (controller, random, _) in results.items():
        assert controller >= BEST - 0.5, f"seed {seed}"
        assert controller >= random, f"seed {seed}"


def test_best_is_that_of_all_networks():
    planted = Planted.of(3)
    few = Planted(planted.single[:4], planted.pairs[:3])
    every = np.stack(np.meshgrid(*[range(VALUES)] * 4), axis=-1).reshape(-1, 4)
    losses = few.single[range(4), every].sum(axis=1)
    losses += few.pairs[range(3), every[:, :-1], every[:, 1:]].sum(axis=1)
    assert few.least() == pytest.approx(losses.min())


@pytest.mark.slow
def test_controller_finds_the_best():
    assert_found({seed: result(seed) for seed in range(20)})


def test_controller_finds_the_best_of_three():
    assert SPACE.count() == 4**10
    assert_found({seed: result(seed) for seed in range(3)})
