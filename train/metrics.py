"""Sums that live on the device and are read once per loop of steps."""

from collections.abc import Iterable

import tensorflow as tf


class Sums:
    """Named running sums: each replica adds to its own, reading adds them up.

    Float32 counts exactly to 16.7 million, more than one loop or evaluation holds.
    To be made under the strategy's scope.
    """

    def __init__(self, names: Iterable[str]):
        self._sums = {
            name: tf.Variable(
                tf.zeros([]),
                trainable=False,
                name=name,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for name in names
        }

    def add(self, **values: tf.Tensor) -> None:
        """Adds one scalar to each sum named. In a replica context."""
        for name, value in values.items():
            self._sums[name].assign_add(tf.cast(value, tf.float32))

    def reset(self) -> None:
        """Sets all to zero. In the cross-replica context."""
        for variable in self._sums.values():
            variable.assign(0.0)

    def read(self) -> dict[str, float]:
        """Returns the totals over all replicas. In the cross-replica context."""
        return {
            name: float(variable.read_value().numpy())
            for name, variable in self._sums.items()
        }


def equal_on_replicas(value: float) -> tf.Variable:
    """Makes a scalar that all replicas set to equal values, to be read from the first.

    To be made under the strategy's scope.
    """
    return tf.Variable(
        tf.constant(value),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def correct_in_top(
    k: int, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Counts the images whose label is among the k largest logits.

    Args:
      k: how many guesses count; more than there are classes means all of them.
      labels: int32[B]; masked entries may hold anything, -1 by convention.
      logits: float32[B, C].
      mask: bool[B], False for what is not an image.
    """
    hit = tf.math.in_top_k(tf.maximum(labels, 0), logits, min(k, logits.shape[-1] or k))
    return tf.reduce_sum(tf.cast(hit & mask, tf.float32))
