"""What a run is too short for, said at its beginning."""

import math
from collections.abc import Iterator

import keras

from common.console import count
from input_pipeline.dataset_info import DatasetInfo
from models.batch_norm import BatchNormalization
from models.parts import built_by_us
from train.experiment import Experiment
from train.small_data import early_stopping

# What may be left of the statistics' first values: exp(-5), 0.7 %.
_TIME_CONSTANTS = 5.0


def remarks(
    experiment: Experiment, info: DatasetInfo, model: keras.Model, step: int
) -> Iterator[str]:
    """Yield a line for everything that a run is too short for.

    Args:
      experiment: the recipe.
      info: of its data.
      model: to be trained.
      step: at which it stands. Of batch norm a run hears before its first step alone,
        as it could not set another momentum later; at its end it is told nothing.
    """
    last, patience = experiment.train_steps(info), experiment.early_stopping_patience
    if step >= last:
        return
    lines = (
        None if step else batch_norm_advice(model, last),
        early_stopping.advice(last, experiment.eval_interval(info), patience),
        _warmup_advice(experiment, info, last),
        _profile_advice(experiment, last),
    )
    yield from filter(None, lines)


def _warmup_advice(experiment: Experiment, info: DatasetInfo, last: int) -> str | None:
    """Return the line for a warmup that a run does not reach the end of."""
    schedule = experiment.make_learning_rate(info)
    warmup = getattr(schedule, "warmup_steps", 0)  # others' schedules may have none
    if warmup < last:
        return None
    return (
        f"the learning rate still rises when the run ends: warmup_epochs are "
        f"{warmup:,} steps, and the run has {last:,}; set fewer warmup_epochs of its "
        "schedule, or more Experiment.epochs"
    )


def _profile_advice(experiment: Experiment, last: int) -> str | None:
    """Return the line for a profile that a run does not reach the end of."""
    profile = experiment.profile_steps
    if profile is None or profile[1] <= last:
        return None
    return (
        f"Experiment.profile_steps = {tuple(profile)} lies behind the end of the run, "
        f"step {last:,}: {'nothing' if profile[0] >= last else 'less'} is profiled; "
        "choose earlier ones"
    )


def batch_norm_advice(model: keras.Model, steps: int) -> str | None:
    """Return the line for a run that is too short for its moving statistics.

    Training normalises by the batch, evaluation and export by the moving statistics,
    which a step moves by 1 - momentum of the way. They are not corrected as Adam's are:
    a run that begins with trained weights begins with trained statistics, too.

    Args:
      model: to be trained; its frozen layers move nothing.
      steps: of the whole run.

    Returns:
      What will happen and the setting that mends it; None where the run is long enough.
    """
    momentum = max(_momenta(model), default=0.0)
    if momentum**steps <= math.exp(-_TIME_CONSTANTS):
        return None
    needed = math.ceil(-_TIME_CONSTANTS / math.log(momentum))
    setting = "the momentum of its batch norm to "
    if built_by_us(model):
        setting = "efficientnet_x.build_model.batch_norm_momentum = "
    return (
        f"the run is short for batch norm's momentum of {momentum:g}: after "
        f"{count(steps, 'step')} its moving statistics are still "
        f"{momentum**steps:.0%} what they began with, and it is by them that "
        "validation and export normalise, so scores lag behind the training; set "
        f"{setting}{fitting(steps):g}, or train for {needed:,} steps"
    )


def fitting(steps: int) -> float:
    """Return the largest momentum of two decimals that so many steps suffice for."""
    return int(100 * math.exp(-_TIME_CONSTANTS / steps)) / 100


def _momenta(model: keras.Model) -> list[float]:
    layers = model._flatten_layers()  # Keras has no public way into the blocks
    kinds = BatchNormalization, keras.layers.BatchNormalization
    moving = [x.momentum for x in layers if isinstance(x, kinds) and x.trainable]
    return [m for m in moving if 0 <= m < 1]  # of 1 in Keras': it stands still
