"""Checkpoints whose values follow from their step: what tests of them share."""

import numpy as np
import tensorflow as tf

from train.checkpoints import bundle, directory
from train.checkpoints.manager import Checkpoints

FILES = (".json", ".data-00000-of-00001", ".index")


def variables(step=0):
    """Of three types; the values follow from the step."""
    held = {
        "step": tf.Variable(tf.constant(0, tf.int64)),
        "model/w": tf.Variable(tf.zeros([7, 5])),
        "ema/w": tf.Variable(tf.zeros([3], tf.bfloat16)),
    }
    set_to(held, step)
    return held


def values_of(step):
    source = np.random.default_rng(step)
    return {
        "step": np.int64(step),
        "model/w": source.normal(size=(7, 5)).astype(np.float32),
        "ema/w": source.integers(0, 99, 3).astype(tf.bfloat16.as_numpy_dtype),
    }


def set_to(held, step):
    for name, value in values_of(step).items():
        held[name].assign(value)


def assert_holds(held, step):
    """Holds the values of a step, bit for bit."""
    for name, value in values_of(step).items():
        assert held[name].numpy().tobytes() == value.tobytes(), name


def saves(folder, *steps, keep=9, **options):
    held = variables()
    with Checkpoints(held, str(folder), keep=keep, **options) as checkpoints:
        for step in steps:
            set_to(held, step)
            checkpoints.save()


def restored(folder):
    """Restores the newest, checks every value and returns the step."""
    held = variables()
    checkpoints = Checkpoints(held, str(folder), keep=9)
    path = checkpoints.restore_newest()
    step = int(held["step"].numpy())
    assert path == (f"{folder}/ckpt-{step}" if path else None)
    assert checkpoints.saved_step == (step if path else None)
    assert_holds(held, step)
    return step if path else None


def newest(folder) -> str:
    """The path of the newest checkpoint that looks intact."""
    path = directory.newest_intact(str(folder))
    assert path is not None
    return path


def steps(folder):
    return [bundle.step(path) for path in directory.list_checkpoints(str(folder))]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def all_files(*steps):
    return sorted(f"ckpt-{step}{suffix}" for step in steps for suffix in FILES)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
