"""Golden numbers of the recipe."""

import keras
import tensorflow as tf

from tests.support.golden import read_json


def recipe() -> dict:
    """Returns learning rates, EMA decays and optimizer trajectories."""
    return read_json("train/recipe_values.json")


def train_step() -> dict:
    """Returns losses and norms of three training steps of x-b0."""
    return read_json("train/train_step_x_b0.json")


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate for each step."""

    def __init__(self, rates):
        self.rates = rates

    def __call__(self, step):
        """Returns the rate of `step`."""
        return tf.gather(tf.constant(self.rates), step)
