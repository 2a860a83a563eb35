"""What several test folders share."""

import gc
import importlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from common import lean_imports
from tests.support.golden import WEIGHT_GAIN, read_json, weight
from tests.support.once import made_once

# The files of these rooms take longest, and the last one to end decides.
LONGEST_FIRST = [
    "test_types.py",
    "train",
    "preflight",
    "input_pipeline",
    "tpu_compiler",
    "performance",
]

# Started by nohup or behind another command, the suite ignores Ctrl-C, and so would
# each child of it: a handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `Garbage` frees what tests leave: Python would search too often, and TensorFlow's own
# allocator, which it chooses when it starts, gives nothing back.
gc.disable()
os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as in the Makefile
lean_imports.keep()  # before TensorFlow is imported, as in every command
GARBAGE = pytest.StashKey()


def pytest_collectstart():
    """Before TensorFlow is used; the process that hands out the tests does without."""
    importlib.import_module("tests.support.tensorflow_settings")


def pytest_collection_modifyitems(items):
    """Put the longest first."""

    def rank(item):
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return (*LONGEST_FIRST, room).index(room)

    items.sort(key=rank)


def pytest_collection_finish(session):
    from tests.support.garbage import Garbage

    session.stash[GARBAGE] = Garbage()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Free what was left, once a test has let go of it."""
    ran = yield
    file_is_done = nextitem is None or nextitem.path != item.path
    item.session.stash[GARBAGE].free_if_much(graphs_are_done=file_is_done)
    return ran


@pytest.fixture(scope="session")
def logical_cpus():
    """Names of two CPU devices."""
    import tensorflow as tf

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
    from input_pipeline.preparation.commands import prepare_mnist

    return made_once(tmp_path_factory, "mnist", lambda path: prepare_mnist(str(path)))
