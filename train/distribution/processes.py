"""The processes of a run, and how all of them come to do the same."""

from collections.abc import Sequence

import tensorflow as tf


class Workers:
    """The processes of a run: who leads, and how all come to do the same.

    Of several strategies only `multi_worker` has more than one: a TPU slice is driven
    by one process. All of them have to call the methods equally often, in one order.

    Attributes:
      number: of this process, from 0.
      count: of processes.
      leads: whether this process is the one that writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.number, self.count, self.leads = 0, 1, True
        self._strategy = strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            # The chief, if there is a task of this name, comes before the workers.
            before = {"chief": 0, "worker": len(jobs.get("chief", ()))}
            self.number = before[resolver.task_type] + resolver.task_id
            self.count = len(jobs.get("chief", ())) + len(jobs["worker"])
            self.leads = self.number == 0
        self._sum = tf.function(self._sum_over_replicas)

    def _sum_over_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def add() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            own = tf.identity(values)  # on the replica's device
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        sums = self._strategy.run(add)
        return self._strategy.experimental_local_results(sums)[0]

    def totals(self, values: Sequence[int]) -> list[int]:
        """Returns sums over all processes."""
        if self.count == 1:
            return list(values)
        totals = self._sum(tf.constant(values, tf.int64)).numpy()
        local = self._strategy.num_replicas_in_sync // self.count
        return [int(total) // local for total in totals]

    def share(self, value: int) -> int:
        """Returns the leader's value on all processes."""
        return self.totals([value if self.leads else 0])[0]


def input_hosts(
    strategy: tf.distribute.Strategy, workers: Workers
) -> tuple[range, int]:
    """Returns the input pipelines of this process, and how many all have."""
    if workers.count > 1:
        return range(workers.number, workers.number + 1), workers.count
    hosts = 1
    if isinstance(strategy, tf.distribute.TPUStrategy):
        hosts = strategy.extended.num_hosts  # this process feeds the whole slice
    return range(hosts), hosts
