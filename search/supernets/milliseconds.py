"""The milliseconds of a selection, in a graph of TensorFlow."""

import functools

import tensorflow as tf

from search.networks.space import Space
from search.supernets.costs import Costs
from search.supernets.selection import Selection


class Milliseconds:
    """Sums up the tables of a space's costs."""

    def __init__(self, space: Space, costs: Costs):
        slices = Selection(space).slices
        self._tables = [
            ([slices[place] for place in table.places], table.ms.astype("float32"))
            for table in costs.tables
        ]

    def of(self, selection: tf.Tensor) -> tf.Tensor:
        """Return float32[], the milliseconds of float32[size].

        Of one network those of its tables' entries. Of weights in between, as warm-up
        has them, the mean over networks whose values are drawn with these weights.
        """
        return tf.add_n(
            [
                _contracted(table, [selection[where] for where in places])
                for places, table in self._tables
            ]
        )


def _contracted(table, weights: list[tf.Tensor]) -> tf.Tensor:
    """Return float32[], a table's mean under the weights of each of its axes."""

    def along_the_last(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(values * weights, axis=-1)

    return functools.reduce(along_the_last, reversed(weights), tf.constant(table))
