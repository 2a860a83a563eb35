"""What a layer has to know of replicas, passed in from outside."""

from collections.abc import Callable

import keras
import tensorflow as tf

from train.errors import UserError


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """Random seeds that are a function of (seed, step, replica) and nothing else.

    Keras' own generator counts up a state variable. Replicas hold equal copies of it,
    so they drop the same units, and a checkpoint forgets it, so a resumed run draws
    other masks. Without a state both mistakes are impossible.
    """

    def __init__(self, seed: int, step: tf.Variable):
        super().__init__(seed)
        self._step = step

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns int[2], the seed of this layer at this step on this replica."""
        del ordered  # there is no state to update in any order
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        draw = self._step * context.num_replicas_in_sync + replica
        state = tf.convert_to_tensor(self.state)
        return tf.stack([state[0], tf.cast(draw, state.dtype)])


def make_reduce_mean(
    strategy: tf.distribute.Strategy, *, replicas_per_group: int | None = None
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Makes the mean over a group of replicas, for `BatchNormalization`.

    On a TPU it is CrossReplicaSum over groups of consecutive replicas, which nobody
    could run here: its tests read the graph. Elsewhere tf.distribute reduces over all
    replicas or none.

    Args:
      strategy: of the training.
      replicas_per_group: that share the statistics of batch normalisation; None is the
        authors' rule (their TpuBatchNormalization): each replica has its own up to 8
        replicas, groups of max(8, replicas / 8) share them above.

    Returns:
      Function of a tensor on this replica, to call within `strategy.run`; None where
      each replica is a group of its own.

    Raises:
      UserError: the replicas do not divide into such groups, or the strategy has none.
    """
    replicas = strategy.num_replicas_in_sync
    size = replicas_per_group or _authors_group_size(replicas)
    if size == 1:
        return None
    if size < 1 or replicas % size:
        raise UserError(
            f"{replicas} replicas do not divide into groups of {size} for batch norm; "
            f"set Experiment.batch_norm_replicas to a divisor of {replicas}"
        )
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return _tpu_mean(group_assignment(replicas, size))
    if size != replicas:
        raise UserError(
            f"batch norm over groups of {size} of {replicas} replicas needs a TPU; set "
            f"Experiment.batch_norm_replicas to 1 or {replicas}"
        )
    return _mean_of_all


def _authors_group_size(replicas: int) -> int:
    return 1 if replicas <= 8 else max(8, replicas // 8)


def group_assignment(replicas: int, size: int) -> list[list[int]]:
    """Returns the consecutive replicas of each group."""
    return [list(range(i, i + size)) for i in range(0, replicas, size)]


def _tpu_mean(groups: list[list[int]]) -> Callable[[tf.Tensor], tf.Tensor]:
    def reduce_mean(value: tf.Tensor) -> tf.Tensor:
        total = tf.raw_ops.CrossReplicaSum(input=value, group_assignment=groups)
        return total / len(groups[0])

    return reduce_mean


def _mean_of_all(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
