"""A run that is short and small enough for a rehearsal, of the run that is meant."""

import dataclasses
import re
from collections.abc import Sequence

from input_pipeline.dataset_info import DatasetInfo
from launch.rehearsal.workers import SliceShape
from train import stage_rows
from train.experiment import Experiment
from train.stage_rows import UNTIL

_EXPERIMENT = "experiment.Experiment"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run in place of an experiment.

    Attributes:
      steps: of each stage of the training.
      stages: how many.
      steps_per_loop: of the rehearsal.
      images_per_core: in a micro-batch; a core's part of a step is so many of them as
        there are micro-batches.
      bindings: that make the one of the other.
    """

    steps: int
    stages: int
    steps_per_loop: int
    images_per_core: int
    bindings: Sequence[str]


def make(
    experiment: Experiment,
    info: DatasetInfo,
    on: SliceShape,
    *,
    steps: int,
    images_per_core: int,
) -> Plan:
    """Return a plan whose programs are those of an experiment, on smaller batches.

    Every stage is begun, and ended by a whole number of loops where it can be two.

    Args:
      experiment: as it is meant.
      info: of the data that are read.
      on: the slice.
      steps: of each stage.
      images_per_core: at most, in a micro-batch.
    """
    parts = on.replicas * experiment.accumulation_steps
    images = max(1, min(images_per_core, experiment.global_batch_size // parts))
    batch = parts * images
    ends = stage_rows.read(experiment.progressive)
    # What the rows leave of the run is one more.
    stages = len(ends) + (max(ends, default=0) < experiment.epochs)
    epochs_of_a_step = batch / info.split(experiment.train_split).total
    epochs = (stages * steps + 0.5) * epochs_of_a_step
    rows = [
        {**row, UNTIL: number * steps * epochs_of_a_step}
        for number, row in enumerate(experiment.progressive, start=1)
    ]
    loop = min(experiment.steps_per_loop, max(1, steps // 2))
    changes = {
        "strategy": "tpu",
        "global_batch_size": batch,
        "eval_batch_size": on.replicas * images,
        "epochs": epochs,
        "eval_every_epochs": epochs,  # at the end alone
        "progressive": rows,
        "steps_per_loop": loop,
        "eval_split": _first_shard(experiment.eval_split),
        "profile_steps": None,  # those of the run that is meant
    }
    bindings = [f"{_EXPERIMENT}.{name} = {value!r}" for name, value in changes.items()]
    return Plan(steps, stages, loop, images, bindings)


def _first_shard(split: str) -> str:
    """Return the first file of a split: "validation[:1shard]" of "validation"."""
    name, _, part = split.partition("[")
    first = int(found[1]) if (found := re.match(r"(\d+)shard", part)) else 0
    return f"{name}[{first}shard:{first + 1}shard]"
