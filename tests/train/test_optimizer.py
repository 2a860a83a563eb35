import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.train.golden import Table, recipe
from train import optimizer


def test_rmsprop_follows_the_reference():
    golden = recipe()["opt_rmsprop"]
    variable = keras.Variable(np.array(golden["w0"], np.float32))
    rmsprop = optimizer.rmsprop(Table(golden["lr"]))
    for gradient, expected in zip(golden["grads"], golden["w"], strict=True):
        rmsprop.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=2e-6)
    final = golden["final_slots"]
    for slot, name in ((rmsprop._momentums, "momentum"), (rmsprop._velocities, "rms")):
        np.testing.assert_allclose(slot[0].numpy(), final[name], rtol=1e-4, atol=1e-7)


def test_keras_own_start_is_another_one():
    """The golden check above can tell the two apart."""
    golden = recipe()["opt_rmsprop"]
    variable = keras.Variable(np.array(golden["w0"], np.float32))
    rmsprop = keras.optimizers.RMSprop(
        Table(golden["lr"]), rho=0.9, momentum=0.9, epsilon=1e-3
    )
    for gradient in golden["grads"]:
        rmsprop.apply([tf.constant(gradient)], [variable])
    assert np.abs(variable.numpy() - golden["w"][-1]).max() > 0.01


def test_steps_are_counted_once_per_update():
    variable = keras.Variable([1.0])
    rmsprop = optimizer.rmsprop(0.1)
    for _ in range(3):
        rmsprop.apply([tf.constant([1.0])], [variable])
    assert int(rmsprop.iterations.numpy()) == 3


@pytest.mark.parametrize("name", ["rho", "momentum", "epsilon"])
def test_settings_reach_keras(name):
    assert getattr(optimizer.rmsprop(0.1, **{name: 0.25}), name) == 0.25
