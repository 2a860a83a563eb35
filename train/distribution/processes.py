"""The processes of a run, and what each of them feeds."""

from collections.abc import Sequence

import tensorflow as tf


class Processes:
    """The processes of a run: which is the chief, and how all come to do the same.

    Of several strategies only `multi_worker` has more than one: a TPU slice is driven
    by one process. All of them have to call the methods equally often, in one order.

    Attributes:
      number: of this process, from 0.
      count: of processes.
      is_chief: whether this process is the one that writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.number, self.count, self.is_chief = 0, 1, True
        self._strategy = strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            # The chief, if there is a task of this name, comes before the workers.
            before = {"chief": 0, "worker": len(jobs.get("chief", ()))}
            self.number = before[resolver.task_type] + resolver.task_id
            self.count = len(jobs.get("chief", ())) + len(jobs["worker"])
            self.is_chief = self.number == 0
        self._sum = tf.function(self._sum_over_replicas)

    def _sum_over_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def add() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            own = tf.identity(values)  # on the replica's device
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        sums = self._strategy.run(add)
        return self._strategy.experimental_local_results(sums)[0]

    def sum_over_processes(self, values: Sequence[int]) -> list[int]:
        """Return the sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        sums = self._sum(tf.constant(values, tf.int64)).numpy()
        replicas = self._strategy.num_replicas_in_sync // self.count
        return [int(total) // replicas for total in sums]

    def broadcast(self, value: int) -> int:
        """Return the chief's value in all processes."""
        return self.sum_over_processes([value if self.is_chief else 0])[0]


def input_hosts(
    strategy: tf.distribute.Strategy, processes: Processes
) -> tuple[range, int]:
    """Return the input pipelines of this process, and how many all have."""
    if processes.count > 1:
        return range(processes.number, processes.number + 1), processes.count
    hosts = 1
    if isinstance(strategy, tf.distribute.TPUStrategy):
        hosts = strategy.extended.num_hosts  # this process feeds the whole slice
    return range(hosts), hosts
