"""Input pipelines on the workers of a slice, beside the same ones here."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from common.errors import Restart, first_line
from input_pipeline.dataset_info import DatasetInfo
from launch.rehearsal.workers import SliceShape
from models.input_form import input_form
from train import datasets, stages, state
from train.distribution import workers
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors

Make = Callable[[tf.distribute.InputContext], tf.data.Dataset]

# This process, whatever machine the default device is on.
HERE = "/job:localhost/replica:0/task:0/device:CPU:0"
BATCHES = 2  # of each replica that are compared, at most


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What feeds the cores of all hosts.

    Attributes:
      name: as in "training".
      make: makes a host's part, wherever it is called.
      hosts: how many parts there are.
      replicas: that they feed.
    """

    name: str
    make: Make
    hosts: int
    replicas: int

    def of_host(self, host: int) -> tf.data.Dataset:
        """Return the part of one host, here."""
        context = tf.distribute.InputContext(self.hosts, host, self.replicas)
        with tf.device(HERE):
            return self.make(context)


def find(experiment: Experiment, info: DatasetInfo, on: SliceShape) -> list[Pipeline]:
    """Return the pipelines of a run: of each of its stages, and of the evaluation.

    Raises:
      UserError: as `train.main` would.
    """
    taken: Any = _Taken()
    makes: dict[str, Make] = {}
    with tf.device(HERE):
        model = state.build_model(experiment, info)
    for number, stage in enumerate(experiment.stages(info).values(), start=1):
        name = "training" if number == 1 else f"training (stage {number})"
        form = stages.stage_form(stage, model)
        makes[name] = datasets.train_dataset(experiment, taken, form, stage)
    form = input_form(model)
    makes["evaluation"] = datasets.eval_dataset(experiment, info, taken, form)
    return [Pipeline(name, make, on.hosts, on.replicas) for name, make in makes.items()]


class _Taken:
    """In place of a strategy: hands out the function that makes a host's part."""

    def distribute_datasets_from_function(self, make: Make) -> Make:
        return make


def differences(pipeline: Pipeline, strategy: tf.distribute.Strategy) -> Iterator[str]:
    """Yield in what a pipeline on the workers is not the same one here, bit for bit.

    Args:
      pipeline: one of `find`.
      strategy: of the slice.

    Raises:
      DataError: a record cannot be read.
    """
    cores = pipeline.replicas // pipeline.hosts
    try:
        with translate_errors():
            placed = _of_replicas(pipeline, strategy)
    except (tf.errors.OpError, Restart) as error:
        if workers.lost():  # nothing of the pipeline's
            raise
        yield (
            f"the {pipeline.name} pipeline does not run on the workers: "
            f"{first_line(error)}"
        )
        return
    with translate_errors(), tf.device(HERE):
        for host in range(pipeline.hosts):
            elements = pipeline.of_host(host).as_numpy_iterator()
            # The replicas of a host take turns.
            for number, replica in itertools.product(range(len(placed)), range(cores)):
                here: Any = next(elements)
                there = placed[number][host * cores + replica]
                if name := _differs(here, there):
                    yield (
                        f"the {pipeline.name} pipeline of host {host} gives another "
                        f"{name} there than here, in batch {number} of its core "
                        f"{replica}"
                    )


def _of_replicas(pipeline: Pipeline, strategy: tf.distribute.Strategy) -> list[Any]:
    """Return the first batches of every replica, in the order of the replicas.

    A small evaluation split has fewer of them.
    """
    iterator = iter(strategy.distribute_datasets_from_function(pipeline.make))
    taken = list(itertools.islice(iterator, BATCHES))

    def of_replica(batch: Any, replica: int) -> Any:
        return tf.nest.map_structure(
            lambda value: strategy.experimental_local_results(value)[replica].numpy(),
            batch,
        )

    replicas = range(pipeline.replicas)
    return [[of_replica(batch, replica) for replica in replicas] for batch in taken]


def _differs(here: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Return the name of what differs in two elements."""
    for name, value in here.items():
        one, other = np.asarray(value), np.asarray(there[name])
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return name
        if one.tobytes() != other.tobytes():
            return name
    return None
