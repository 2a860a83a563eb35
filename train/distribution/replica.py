"""What a layer has to know of replicas, passed in from outside."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from common.errors import UserError
from models.batch_norm import BatchNormalization


class MicroBatch(threading.local):
    """Which part of a replica's batch a replica works on, where it takes several.

    MirroredStrategy traces every replica in a thread of its own, and changes from one
    to the next in the middle: so each has its own number.
    """

    def __init__(self, count: int = 1):
        self.count = count
        self.number: int | tf.Tensor = 0


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """Random seeds: a function of (seed, step, micro-batch, replica), no other state.

    Keras' own generator counts up a state variable. Replicas hold equal copies of it,
    so they drop the same units, and a checkpoint forgets it, so a resumed run draws
    other masks. Without a state both mistakes are impossible.
    """

    def __init__(self, seed: int, step: tf.Variable, micro_batch: MicroBatch):
        super().__init__(seed)
        self._step = step
        self._micro_batch = micro_batch

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return int32[2], the seed of this layer at this step on this replica."""
        del ordered  # there is no state to update in any order
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        number = tf.cast(self._micro_batch.number, tf.int64)
        draw = self._step * self._micro_batch.count + number
        draw = draw * context.num_replicas_in_sync + replica
        # From int64 Keras takes a remainder, 1,700 scalar instructions a mask on a TPU.
        state = tf.cast(tf.convert_to_tensor(self.state), tf.int32)
        return tf.stack([state[0], tf.cast(draw, tf.int32)])


class MovingStatistics:
    """Batch norm's moving statistics, which the layers leave to the trainer to assign.

    Each layer by itself would average its own over the replicas: two all-reduces a
    layer. Together they are part of the one that sums the gradients.
    """

    def __init__(self, model: keras.Model):
        """Take over the layers of a model; other models of the same layers follow."""
        self._noted = threading.local()  # see MicroBatch
        layers = model._flatten_layers()  # Keras has no public way into the blocks
        self._layers = [
            layer
            for layer in layers
            if isinstance(layer, BatchNormalization) and layer.trainable
        ]
        for layer in self._layers:
            layer.assign_statistic = self._note

    @property
    def variables(self) -> list[keras.Variable]:
        """The statistics that training moves, layer by layer."""
        return [
            statistic
            for layer in self._layers
            for statistic in (layer.moving_mean, layer.moving_variance)
        ]

    def _note(self, statistic: keras.Variable, value: tf.Tensor) -> None:
        values = getattr(self._noted, "values", None)
        if values is None:  # somebody else calls the model
            statistic.assign(value)
        else:
            values[statistic.path] = value

    def of(
        self, function: Callable[[], Any], moved: Iterable[keras.Variable]
    ) -> tuple[Any, list[tf.Tensor]]:
        """Return what a forward pass returns, and what it moves the statistics to.

        Args:
          function: the forward pass.
          moved: those of `variables` that it moves.
        """
        values = self._noted.values = {}
        try:
            result = function()
        finally:
            self._noted.values = None
        return result, [values[statistic.path] for statistic in moved]

    def assign(
        self, moved: Iterable[keras.Variable], values: Sequence[tf.Tensor]
    ) -> None:
        """Set some of them to values that are equal on all replicas; in a replica."""
        assign_equal([statistic.value for statistic in moved], values)


def assign_equal(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Set variables to values that are equal on all replicas, without communication.

    To be called in a replica context.
    """

    def assign_all(strategy, variables: Sequence, values: Sequence) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable, lambda copy, v: copy.assign(v), args=(value,), group=False
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        assign_all, tf.distribute.get_strategy(), list(variables), list(values)
    )


def update_where(
    condition: tf.Tensor,
    variables: Sequence[tf.Variable],
    update: Callable[[], None],
) -> None:
    """Update variables, and leave all as they were where a condition is false.

    To be called in a replica context. Nothing branches: the update is computed and
    then taken or not, so that the program of a step is one of static shapes. That
    costs a copy of the variables for as long as it takes.

    Args:
      condition: bool[], equal on all replicas.
      variables: all that the update changes and that the condition is about.
      update: changes them.
    """
    before = [tf.identity(variable) for variable in variables]
    update()
    after = [
        tf.where(condition, variable, old)
        for variable, old in zip(variables, before, strict=True)
    ]
    assign_equal(variables, after)


BATCH_NORM = ("reference", "per_replica", "global")


def make_reduce_mean(
    strategy: tf.distribute.Strategy, batch_norm: str | int = "reference"
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Make the mean over a group of replicas, for `BatchNormalization`.

    On a TPU it is a sum over groups of consecutive replicas, which nobody could run
    here: its tests read the graph, and XLA compiles it. tf.distribute knows no groups
    elsewhere: there each replica puts its value into its group's row of a sum over all.

    Args:
      strategy: of the training.
      batch_norm: how many replicas share the statistics of batch normalisation;
        "per_replica" is one, "global" all, "reference" the authors' rule (their
        TpuBatchNormalization): one up to 8 replicas, max(8, replicas / 8) above.

    Returns:
      Function of a tensor on this replica, to call within `strategy.run`; None where
      each replica is a group of its own.

    Raises:
      UserError: the replicas do not divide into such groups.
    """
    replicas = strategy.num_replicas_in_sync
    sizes: dict[str | int, int] = {
        "reference": _authors_group_size(replicas),
        "per_replica": 1,
        "global": replicas,
    }
    size = sizes.get(batch_norm, batch_norm)
    assert isinstance(size, int)  # Experiment has checked the names
    if size < 1 or replicas % size:
        raise UserError(
            f"{replicas} replicas do not divide into groups of {size} for batch norm; "
            f"set Experiment.batch_norm to 'per_replica', 'global' or a divisor of "
            f"{replicas}"
        )
    if size == 1:
        return None
    if sums_in_groups(strategy):
        return _mean_in_groups(strategy, group_assignment(replicas, size))
    return _mean_of_all if size == replicas else _mean_of_group(replicas // size, size)


def _authors_group_size(replicas: int) -> int:
    return 1 if replicas <= 8 else max(8, replicas // 8)


def group_assignment(replicas: int, size: int) -> list[list[int]]:
    """Return the consecutive replicas of each group."""
    return [list(range(i, i + size)) for i in range(0, replicas, size)]


def sums_in_groups(strategy: tf.distribute.Strategy) -> bool:
    """Whether a step is one program, in which some of the replicas can sum up.

    So it is on a TPU, and for a strategy that brings its own `sum_in_groups`.
    """
    is_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    return is_tpu or hasattr(strategy, "sum_in_groups")


def _mean_in_groups(
    strategy: tf.distribute.Strategy, groups: list[list[int]]
) -> Callable[[tf.Tensor], tf.Tensor]:
    sum_in_groups = getattr(strategy, "sum_in_groups", _cross_replica_sum)

    def reduce_mean(value: tf.Tensor) -> tf.Tensor:
        return sum_in_groups(value, groups) / len(groups[0])

    return reduce_mean


def _cross_replica_sum(value: tf.Tensor, groups: list[list[int]]) -> tf.Tensor:
    return tf.raw_ops.CrossReplicaSum(input=value, group_assignment=groups)


def _mean_of_all(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def _mean_of_group(count: int, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    def reduce_mean(value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        group = tf.cast(context.replica_id_in_sync_group, tf.int32) // size
        rows = [tf.where(group == row, value, 0.0) for row in range(count)]
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(rows))
        return total[group] / size

    return reduce_mean
