"""A step in several parts is the sum of its parts, each with masks of its own."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.support.rounding import rounding
from tests.support.runs import experiment_of
from tests.train.test_mixing import INFO, batch_of
from train import state
from train.distribution import replica
from train.trainer import Trainer


@pytest.fixture(scope="module")
def trainer():
    """Of three micro-batches of four images, with dropout and stochastic depth."""
    settings = {"accumulation_steps": 3, "global_batch_size": 12}
    experiment = experiment_of(
        "unused", **{f"experiment.Experiment.{k}": v for k, v in settings.items()}
    )
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = state.create(experiment, INFO)
        return Trainer(experiment, train_state, strategy, dataset=None)


def images_and_targets(trainer):
    batch = batch_of([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, -1])
    return batch["image"], trainer.targets(batch["label"])


def in_replica(trainer, function):
    return tf.function(lambda: trainer.strategy.run(function), autograph=False)()


@pytest.fixture(scope="module")
def sum_of_parts(trainer):
    """What the three parts give, added up, before any update."""
    images, targets = images_and_targets(trainer)

    def part(number):
        trainer.state.micro_batch.number = number
        begin, end = 4 * number, 4 * number + 4
        return trainer._part(images[begin:end], targets[begin:end])

    parts = [in_replica(trainer, lambda n=n: part(n)) for n in range(3)]
    trainer.state.micro_batch.number = 0
    return tf.nest.map_structure(lambda *values: sum(values), *parts)


def assert_same_sums(one, other):
    """But for rounding: over 12 images and the 16 x 16 pixels of the largest layer."""
    allowed = rounding(12 * 16 * 16, float(np.abs(other).max()))
    np.testing.assert_allclose(one, other, rtol=0, atol=allowed)


@pytest.mark.long
@pytest.mark.parametrize(
    "in_a_loop", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_sums(trainer, sum_of_parts, in_a_loop, monkeypatch):
    """Where batch norm reduces over replicas, the loop of the graph is unrolled."""
    images, targets = images_and_targets(trainer)
    changed = dataclasses.replace(trainer.state, loops_can_reduce=in_a_loop)
    monkeypatch.setattr(trainer, "state", changed)
    sums = in_replica(trainer, lambda: trainer._sums_of(images, targets))
    pairs = zip(tf.nest.flatten(sums), tf.nest.flatten(sum_of_parts), strict=True)
    for one, other in pairs:
        assert_same_sums(one, other)
    assert len(sums["statistics"]) == 14
    assert float(sums["loss"]) > 1


@pytest.mark.long
def test_update_averages_the_statistics(trainer, sum_of_parts):
    """The moving statistics move once a step, to the mean of the parts."""
    images, targets = images_and_targets(trainer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "targets", lambda _: targets)
        batch = {"image": images, "label": tf.zeros([12], tf.int32)}
        in_replica(trainer, lambda: trainer.replica_step(batch))
    moved = trainer.state.statistics.variables
    for statistic, value in zip(moved, sum_of_parts["statistics"], strict=True):
        assert_same_sums(statistic, value / 3)


def test_each_part_has_masks_of_its_own():
    counter, micro_batch = tf.Variable(tf.constant(7, tf.int64)), replica.MicroBatch(3)
    seeds = replica.ReplicaSeedGenerator(1, counter, micro_batch)
    drawn = []
    for number in range(3):
        micro_batch.number = number
        drawn.append(seeds.next().numpy().tolist())
    assert drawn == [[1, 21], [1, 22], [1, 23]]


@pytest.mark.long
def test_others_may_call_the_model(trainer):
    """Outside of a step, training mode moves the statistics at once."""
    images, _ = images_and_targets(trainer)
    statistic = trainer.state.statistics.variables[0]
    before = statistic.numpy()
    trainer.state.model(images, training=True)
    assert (statistic.numpy() != before).all()
