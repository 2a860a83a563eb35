from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.batch_norm import BatchNormalization
from models.layers import Dropout
from tests.support.rounding import rounding
from train.distribution.replica import (
    MicroBatch,
    ReplicaSeedGenerator,
    group_assignment,
    make_reduce_mean,
)

# Masks


@pytest.fixture(scope="module")
def masks(logical_cpus):
    """Function: seed, step -> the mask of each of two replicas."""
    strategy = tf.distribute.MirroredStrategy(logical_cpus)

    def draw(seed, step):
        with strategy.scope():
            counter = tf.Variable(step, dtype=tf.int64)
            layer = Dropout(
                0.5,
                seed=seed,
                make_seed_generator=lambda s: ReplicaSeedGenerator(
                    s, counter, MicroBatch()
                ),
            )
        dropped = strategy.run(lambda: layer(tf.ones([64]), training=True))
        return [m.numpy() for m in strategy.experimental_local_results(dropped)]

    return draw


def test_replicas_draw_other_masks(masks):
    one, other = masks(seed=1, step=0)
    assert (one != other).any()


def test_masks_are_a_function_of_seed_and_step(masks):
    first = masks(seed=1, step=7)
    np.testing.assert_array_equal(first, masks(seed=1, step=7))
    assert (np.array(first) != masks(seed=1, step=8)).any(axis=1).all()
    assert (np.array(first) != masks(seed=2, step=7)).any(axis=1).all()


# Batch normalisation over replicas


def strategy_of(kind, replicas):
    """A strategy that says of itself what it is, and nothing else."""
    return mock.Mock(spec=kind, num_replicas_in_sync=replicas)


def tpu_groups(replicas, **options):
    """The groups in the graph of a TPU's mean, and what the sum is divided by."""
    strategy = strategy_of(tf.distribute.TPUStrategy, replicas)
    reduce_mean = make_reduce_mean(strategy, **options)
    if reduce_mean is None:
        return None
    with tf.Graph().as_default() as graph:
        mean = reduce_mean(tf.ones([2, 3]))
    (reduction,) = (op for op in graph.get_operations() if "Cross" in op.type)
    assert reduction.type == "CrossReplicaSum"
    assert mean.op.type == "RealDiv"
    assert mean.op.inputs[0] is reduction.outputs[0]
    assert mean.shape == (2, 3)
    groups, divisor = map(tf.get_static_value, (reduction.inputs[1], mean.op.inputs[1]))
    assert groups.dtype == np.int32
    return groups.tolist(), float(divisor)


@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_up_to_8_replicas_normalize_by_themselves(replicas):
    assert tpu_groups(replicas) is None
    strategy = strategy_of(tf.distribute.MirroredStrategy, replicas)
    assert make_reduce_mean(strategy) is None


def test_groups_of_16_replicas():
    first, second = [0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]
    assert tpu_groups(16) == ([first, second], 8.0)


@pytest.mark.parametrize(("replicas", "size"), [(64, 8), (128, 16), (256, 32)])
def test_groups_of_a_pod(replicas, size):
    groups, divisor = tpu_groups(replicas) or ([], 0)
    assert divisor == size
    assert [len(group) for group in groups] == [size] * 8
    assert np.ravel(groups).tolist() == list(range(replicas))
    assert groups == group_assignment(replicas, size)


def test_groups_of_a_given_size():
    assert tpu_groups(4, batch_norm=2) == ([[0, 1], [2, 3]], 2.0)
    assert tpu_groups(8, batch_norm=8) == ([[0, 1, 2, 3, 4, 5, 6, 7]], 8.0)
    assert tpu_groups(256, batch_norm=1) is None


@pytest.mark.parametrize(
    ("kind", "replicas", "size", "message"),
    [
        (
            tf.distribute.TPUStrategy,
            12,
            "reference",
            "12 replicas do not divide into .* of 8",
        ),
        (tf.distribute.TPUStrategy, 8, 16, "8 replicas do not divide into .* of 16"),
        (tf.distribute.TPUStrategy, 8, -2, "8 replicas do not divide into .* of -2"),
        (tf.distribute.MirroredStrategy, 4, 3, "4 replicas do not .* of 3"),
        (tf.distribute.MirroredStrategy, 12, "reference", "12 .* into groups of 8"),
    ],
)
def test_groups_that_cannot_be(kind, replicas, size, message):
    with pytest.raises(UserError, match=message):
        make_reduce_mean(strategy_of(kind, replicas), batch_norm=size)


GAMMA, MOVING_MEAN = [0.5, 1.0, 2.0, 3.0, 4.0], 0.1


def batch_norm_step(strategy, shards):
    """[outputs, dx, dgamma, dbeta] and moving statistics, of each replica."""
    with strategy.scope():
        layer = BatchNormalization(
            reduce_mean=make_reduce_mean(strategy, batch_norm="global")
        )
        layer.build((None, 5))
        layer.gamma.assign(GAMMA)
        layer.moving_mean.assign([MOVING_MEAN] * 5)

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        x, dy = tf.unstack(tf.gather(shards, replica, axis=1))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        weights = [layer.gamma.value, layer.beta.value]
        return y, *tape.gradient(y, [x, *weights], dy)

    outputs = tf.function(lambda: strategy.run(step), autograph=False)()
    moving = [layer.moving_mean.value, layer.moving_variance.value]
    local = strategy.experimental_local_results
    return [local(value) for value in outputs], [local(value) for value in moving]


def textbook(x, dy):
    """The same of the whole batch, in float64."""
    axes = (0, 1, 2)
    mean, variance = x.mean(axes), x.var(axes)
    inverse = 1 / np.sqrt(variance + 1e-3)
    normalized = (x - mean) * inverse
    dgamma, dbeta = (dy * normalized).sum(axes), dy.sum(axes)
    centered = dy - (dbeta + normalized * dgamma) / (x.size / 5)
    outputs = [normalized * GAMMA, GAMMA * inverse * centered, dgamma, dbeta]
    return outputs, [0.99 * MOVING_MEAN + 0.01 * mean, 0.99 + 0.01 * variance]


def assert_close(actual, expected):
    """Sums of 16 x 4 x 4 values in float32 lie behind each number."""
    atol = rounding(terms=16 * 4 * 4, scale=np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_normalize_as_one(logical_cpus, replicas):
    random = np.random.default_rng(1)
    x = random.normal(0.7, 2.0, size=(2, 8, 4, 4, 5))
    x[1] += 3  # the replicas' own statistics differ
    batch = np.stack([x, random.normal(0.3, size=x.shape)]).astype(np.float32)
    expected, expected_moving = textbook(
        *batch.reshape(2, 16, 4, 4, 5).astype(np.float64)
    )
    strategy = tf.distribute.MirroredStrategy(logical_cpus[:replicas])
    outputs, moving = batch_norm_step(
        strategy, batch.reshape(2, replicas, 16 // replicas, 4, 4, 5)
    )
    for parts, value in zip(outputs[:2], expected[:2], strict=True):
        assert_close(np.concatenate(parts), value)
    for parts, value in zip(outputs[2:], expected[2:], strict=True):
        assert_close(sum(parts), value)
        is_part = np.abs(parts[0].numpy() - value).max() > 1
        assert is_part == (replicas == 2)  # which are not summed yet
    for copies, value in zip(moving, expected_moving, strict=True):
        for copy in copies:
            assert_close(copy, value)
