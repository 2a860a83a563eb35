import numpy as np
import pytest
import tensorflow as tf

from models.layers import Dropout
from train.replica import ReplicaSeedGenerator


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
                make_seed_generator=lambda s: ReplicaSeedGenerator(s, counter),
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
