"""A slice of accelerators that is not there: a step is compiled for it, not run."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# The only way into XLA's all-reduce over named groups from outside TPUStrategy, whose
# own op, CrossReplicaSum, has no lowering without a TPU.
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.distribute.one_device_strategy import OneDeviceExtended


class CompileOnlyStrategy(tf.distribute.Strategy):
    """One replica's part of a program for many.

    What the trainer asks of a strategy is answered as TPUStrategy would on such a
    slice: how many replicas there are, and reductions over them. Variables lie once, on
    the CPU. Three things differ from a replica of TPUStrategy: the replica's number is
    the constant 0, variables are not mirrored, and nothing asks for merge_call, which
    TPUStrategy has; its program is the same with it and without.
    """

    def __init__(self, num_replicas: int):
        """Args: num_replicas: of the slice; the cores on v2 and v3, else the chips."""
        super().__init__(_Extended(self, num_replicas))

    def sum_in_groups(
        self, value: tf.Tensor, groups: Sequence[Sequence[int]]
    ) -> tf.Tensor:
        """Return the sum over this replica's group; only in a program for XLA."""
        return _sum_in_groups(value, groups)


class _Extended(OneDeviceExtended):
    def __init__(self, strategy: CompileOnlyStrategy, num_replicas: int):
        super().__init__(strategy, "/cpu:0")
        self._replicas = num_replicas

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._replicas

    def _use_merge_call(self) -> bool:
        return False  # there is one replica's program, and nobody to merge with

    def _replica_ctx_all_reduce(
        self, reduce_op: tf.distribute.ReduceOp, value: Any, options: Any = None
    ) -> Any:
        del options
        all_replicas = [list(range(self._replicas))]
        total = tf.nest.map_structure(lambda v: _sum_in_groups(v, all_replicas), value)
        if reduce_op == tf.distribute.ReduceOp.SUM:
            return total
        return tf.nest.map_structure(lambda v: v / self._replicas, total)


def _sum_in_groups(value: tf.Tensor, groups: Sequence[Sequence[int]]) -> tf.Tensor:
    return gen_xla_ops.xla_all_reduce(
        value, group_assignment=groups, reduce_op="Add", mode="CrossReplica"
    )
