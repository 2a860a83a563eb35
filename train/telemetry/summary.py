"""What summary.json says of a run."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from common import gfiles
from common.claims import Fence
from input_pipeline.dataset_info import DatasetInfo
from models.input_form import input_form
from train.distribution import devices
from train.distribution.processes import Processes
from train.experiment import Experiment
from train.state import TrainState

# Of the last process that has trained: one that finds nothing left to do leaves them.
_OF_THE_LAST_TO_TRAIN = (
    "first_step",
    "seconds",
    "images_per_second",
    "train_skipped_records",
)


def write_summary(
    model_dir: str, summary: dict[str, Any], processes: Processes, fence: Fence
) -> dict[str, Any]:
    """Return the summary, which the chief writes if the fence lets it."""
    if not processes.is_chief:
        return summary
    path = f"{model_dir}/summary.json"
    return gfiles.write_json(path, summary, _OF_THE_LAST_TO_TRAIN, fence=fence)


def line(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report as one line can say it: of the mistakes no lists."""
    found = report.get("mistakes")
    if not isinstance(found, Mapping):
        return dict(report)
    short = {k: v for k, v in found.items() if isinstance(v, int | str | None)}
    return {**report, "mistakes": short}


def image_counts(experiment: Experiment, info: DatasetInfo) -> dict[str, int]:
    """Return how many images the splits of a run have, by name.

    To train alone, data need no split to score.
    """
    train, evaluation = experiment.train_split, experiment.eval_split
    images = {train: info.split(train).total}
    if evaluation.partition("[")[0] in info.splits:
        images[evaluation] = info.split(evaluation).total
    return images


def training_summary(
    experiment: Experiment,
    info: DatasetInfo,
    train_state: TrainState,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    """Return what a summary says of a state, but for its scores."""
    counters = {
        "roll_backs": train_state.roll_backs,
        "skipped_batches": train_state.skipped_batches,
    }
    if train_state.loss_scale is not None:
        counters["skipped_steps"] = train_state.loss_scale.skipped_steps
    step = int(train_state.step.numpy())
    return {
        **model_summary(experiment, train_state.model, step),
        "classes": len(info.label_names),
        "images": image_counts(experiment, info),
        "precision": experiment.precision,
        **devices.find(strategy).summary(),
        **{name: int(counter.numpy()) for name, counter in counters.items()},
    }


def model_summary(
    experiment: Experiment, model: keras.Model, step: int
) -> dict[str, Any]:
    """Return what model a summary speaks of, and how long it was trained."""
    return {
        "variant": model.name,
        "resolution": input_form(model).resolution,
        "parameters": parameters(model),
        "steps": step,
        "images_seen": step * experiment.global_batch_size,
    }


def parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters."""
    return sum(v.value.shape.num_elements() for v in model.trainable_variables)
