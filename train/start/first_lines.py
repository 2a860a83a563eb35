"""What a run says before its first step: two lines, and warnings."""

import keras
import tensorflow as tf

from common.console import count, say, warn
from input_pipeline.dataset_info import DatasetInfo
from models.input_form import input_form
from train import datasets
from train.distribution import devices
from train.experiment import Experiment
from train.small_data import short_runs
from train.start import counts
from train.telemetry.summary import image_counts, parameters


def say_all(
    experiment: Experiment,
    info: DatasetInfo,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    step: int,
    *,
    has_begun: bool,
    with_evaluation: bool,
) -> None:
    """Say what is trained on what, and what a person should know of it.

    Args:
      experiment: the recipe.
      info: of its data.
      model: that is trained.
      strategy: of the training.
      step: where it begins.
      has_begun: whether an earlier process has saved something.
      with_evaluation: whether the evaluation split is scored.
    """
    say(start_message(experiment, info, model, strategy, step))
    odd = counts.remarks(
        experiment,
        info,
        model.output_shape[-1],
        has_begun=has_begun,
        with_evaluation=with_evaluation,
    )
    for line in (*odd, *short_runs.remarks(experiment, info, model, step)):
        warn(line)


def start_message(
    experiment: Experiment,
    info: DatasetInfo,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    step: int,
) -> str:
    """Return the first two lines of a run: what is trained on what."""
    origin = "scratch" if experiment.pretrained is None else "pretrained weights"
    classes, outputs = len(info.label_names), model.output_shape[-1]
    images = image_counts(experiment, info)
    return (
        f"{model.name}: {parameters(model):,} parameters, "
        f"{input_form(model).resolution} px, {count(classes, 'class', 'classes')}"
        + f" ({outputs:,} outputs)" * (outputs != classes)
        + f"; {experiment.precision} on {devices.find(strategy)}\n"
        + ", ".join(f"{number:,} images in {name}" for name, number in images.items())
        + " (fused input ops)" * datasets.uses_fused_ops(experiment)
        + f"; {count(experiment.train_steps(info), 'step')} of "
        f"{experiment.global_batch_size:,}; "
        + (f"going on at step {step:,}" if step else f"starting from {origin}")
    )
