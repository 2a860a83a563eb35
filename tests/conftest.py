"""What several test folders share."""

import gc
import signal

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.preparation.commands import prepare_mnist
from tests.support.golden import WEIGHT_GAIN, read_json, weight

# Started by nohup or in the background of a script, the suite ignores Ctrl-C and so would
# each child of it: a handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two devices for the tests of replicas; it has to be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
# Most of a test's time is the making of graphs that run for a moment.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# What TensorFlow has made is slow to free, and the more of it the slower: a minute for
# that of all tests. A process of theirs needs 1 GB without.
gc.disable()

# Under nohup or in the background of a shell Ctrl-C is ignored, by children, too; the
# tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def logical_cpus():
    """Names of two CPU devices."""
    return [device.name for device in tf.config.list_logical_devices("CPU")]


@pytest.fixture(scope="session")
def golden_weights():
    """Function: name -> the weights of the goldens, in the reference's order."""

    def make(name):
        return [
            weight(place, variable, shape, WEIGHT_GAIN[name])
            for place, (variable, shape, _) in enumerate(
                read_json("models/variables.json.xz")[name]
            )
        ]

    return make


@pytest.fixture(scope="session")
def golden_pixels():
    """Function: batch and size -> the goldens' N(0, 1) input, as pixels."""

    def make(batch, size):
        normal = np.random.RandomState(7).normal(size=(batch, size, size, 3))
        std, mean = (0.229, 0.224, 0.225), (0.485, 0.456, 0.406)
        pixels = (normal.astype(np.float32) * std + mean) * 255
        return pixels.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of the prepared digits."""
    folder = tmp_path_factory.mktemp("mnist")
    prepare_mnist(str(folder))
    return folder
