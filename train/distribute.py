"""Which devices a run uses: the one place that makes a `tf.distribute.Strategy`."""

import json
import os
from collections.abc import Sequence

import tensorflow as tf

from train.errors import UserError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Makes the strategy that a gin file names.

    Args:
      name: `one_device` (the first GPU, else the CPU), `mirrored` (every GPU of this
        host, else every logical CPU), `multi_worker` (one process per host, told apart
        by TF_CONFIG) or `tpu` (the host or pod slice that $TPU_NAME names).

    Raises:
      UserError: the name is unknown, or what the strategy needs is not there.
    """
    makers = {
        "one_device": _one_device,
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
        "tpu": lambda: _tpu(os.environ.get("TPU_NAME")),
    }
    if name not in makers:
        raise UserError(
            f"unknown strategy {name!r}; Experiment.strategy is one of: "
            + ", ".join(makers)
        )
    return makers[name]()


def _one_device() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def _mirrored() -> tf.distribute.Strategy:
    list_devices = tf.config.list_logical_devices
    devices = list_devices("GPU") or list_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker() -> tf.distribute.Strategy:
    try:
        config = json.loads(os.environ.get("TF_CONFIG", ""))
        complete = config["cluster"]["worker"] and {"type", "index"} <= set(
            config["task"]
        )
    except (json.JSONDecodeError, KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(
            "strategy 'multi_worker' needs TF_CONFIG in the environment of every "
            'process, as in TF_CONFIG=\'{"cluster": {"worker": ["host0:2222", '
            '"host1:2222"]}, "task": {"type": "worker", "index": 0}}\''
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(name: str | None) -> tf.distribute.Strategy:
    if not name:
        raise UserError(
            "strategy 'tpu' needs the TPU's name: set TPU_NAME (`local` on a single "
            "TPU host). Without a TPU, train with "
            "--gin_param=\"experiment.Experiment.strategy = 'one_device'\""
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        # A TPU VM that trains on its own chips has no remote job to connect to.
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"cannot reach TPU {name!r}: {error}") from error
    return tf.distribute.TPUStrategy(resolver)


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
