"""What a run has before anything of it is built: folder, watch, devices, processes."""

import contextlib
import dataclasses
from collections.abc import Callable

import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo
from train.distribution import devices, strategies, workers
from train.distribution.cluster import Cluster
from train.distribution.processes import Processes
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.fault_tolerance.preemption import Preemption
from train.fault_tolerance.watchdog import Watchdog
from train.numerics import precision
from train.run_data import RunData
from train.run_folder import Claim, agree
from train.settings import data_changes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunContext:
    """A run in this process, before anything is built.

    Attributes:
      experiment: the recipe.
      info: of its data.
      model_dir: its folder.
      claim: on that.
      watchdog: ends this process where it gets nowhere.
      preemption: knows of SIGTERM.
      strategy: the devices.
      processes: of the run.
    """

    experiment: Experiment
    info: DatasetInfo
    model_dir: str
    claim: Claim
    watchdog: Watchdog
    preemption: Preemption
    strategy: tf.distribute.Strategy
    processes: Processes


def enter(
    experiment: Experiment,
    info: DatasetInfo,
    model_dir: str,
    stack: contextlib.ExitStack,
    *,
    members: Cluster,
    claim: Claim,
    data: RunData,
) -> RunContext:
    """Watch over the run, wait for its devices and processes, and agree on its folder.

    Args:
      experiment: the recipe.
      info: of its data.
      model_dir: its folder.
      stack: at whose end the watch ends.
      members: the processes of the run, as they are known before they meet.
      claim: of this process on the folder.
      data: that this process has; all have to have the same.

    Raises:
      UserError: the chief was refused the folder, or something does not go together.
    """
    # Who watches over the run, before anything that may hang.
    posts = members.is_chief and claim.refusal is None
    watchdog = stack.enter_context(
        make_watchdog(experiment, model_dir, members, posts=posts)
    )
    # Within it, so that it posts what an error means.
    stack.enter_context(translate_errors())
    preemption = stack.enter_context(
        Preemption(experiment.preemption_deadline_seconds, watchdog.describe)
    )

    # Its devices, and its other processes.
    watchdog.phase("waiting for the devices and the other processes")
    strategy = make_strategy(experiment, lambda: preemption.requested)
    devices.check(experiment.strategy, strategy, trains=True)
    processes = Processes(strategy)
    agree(claim, model_dir, processes)
    data_changes.agree(data, processes)
    watchdog.start_posting()  # in the folder that is the run's by now
    return RunContext(
        experiment=experiment,
        info=info,
        model_dir=model_dir,
        claim=claim,
        watchdog=watchdog,
        preemption=preemption,
        strategy=strategy,
        processes=processes,
    )


def make_strategy(
    experiment: Experiment, is_stopped: Callable[[], bool] = lambda: False
) -> tf.distribute.Strategy:
    """Return the devices of a run, checked against its settings.

    Several processes have to meet before TensorFlow starts.
    """
    if experiment.strategy == "tpu":  # known before it is reached
        precision.refuse_on_tpus(experiment.precision)
    strategy = strategies.make_strategy(experiment.strategy, is_stopped)
    precision.check(experiment.precision, strategy)
    experiment.check_replicas(strategy.num_replicas_in_sync)
    return strategy


def make_watchdog(
    experiment: Experiment, model_dir: str, members: Cluster, *, posts: bool
) -> Watchdog:
    """Return what ends this process when it gets nowhere."""
    minutes = experiment.hang_timeout_minutes
    return Watchdog(
        model_dir,
        process=members.number,
        processes=members.count,
        timeout_seconds=None if minutes is None else 60 * minutes,
        posts=posts,
        others=workers.describe,
        gone=workers.gone,
    )
