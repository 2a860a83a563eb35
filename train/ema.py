"""Exponential moving average of a model, kept in a second model.

A second model costs no more memory than slots would, covers batch norm's moving
statistics, and is evaluated and exported as it is: no weights are ever swapped.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from train.distribution import slices


def effective_decay(decay: float, step: tf.Tensor | int) -> tf.Tensor:
    """Return min(decay, (1 + step) / (10 + step)), float32.

    Early averages forget quickly, so that they are not held back by the random start.

    Args:
      decay: the limit, in [0, 1).
      step: updates done so far, this one included (1 at the first).
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def averaged_variables(model: keras.Model) -> list[keras.Variable]:
    """Return what an average covers: trainables and batch norm's statistics."""
    return list(model.weights)


def copy(
    model: keras.Model,
    shadow: keras.Model,
    assign: slices.Assign = slices.assign_at_once,
) -> None:
    """Start the average at the model's values; under the strategy's scope.

    Args:
      model: whose average it is.
      shadow: that holds the average.
      assign: how variables are set.
    """
    pairs = _pairs(model, shadow)
    assign([average.value for average, _ in pairs], [own.value for _, own in pairs])


def update(model: keras.Model, shadow: keras.Model, decay: tf.Tensor) -> None:
    """Move every average towards its variable by (1 - decay) of the distance.

    To be called in a replica context, after the optimizer's update.
    """
    pairs = _pairs(model, shadow)
    rate = 1.0 - decay

    def move(average, value, rate):
        average.assign_sub((average - value) * rate)

    def move_all(strategy, averages: Sequence, values: Sequence, rate) -> None:
        for average, value in zip(averages, values, strict=True):
            strategy.extended.update(average, move, args=(value, rate), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        move_all,
        tf.distribute.get_strategy(),
        [average.value for average, _ in pairs],
        [variable.value for _, variable in pairs],
        rate,
    )


def _pairs(
    model: keras.Model, shadow: keras.Model
) -> list[tuple[keras.Variable, keras.Variable]]:
    averages, variables = averaged_variables(shadow), averaged_variables(model)
    return list(zip(averages, variables, strict=True))
