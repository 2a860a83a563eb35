"""Takes a run through its stages: each has a trainer of its own for the same state."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import orbit
import tensorflow as tf

from input_pipeline.records import DatasetInfo
from models.resize import at_resolution, form_at_resolution
from models.rewrites import InputForm, input_form
from train import config
from train.errors import UserError
from train.experiment import Experiment
from train.progress import Progress, orbit_unheard
from train.stages import Stage
from train.state import TrainState
from train.step import Trainer

OWN = Stage()  # the recipe's own settings


class StagedTraining:
    """The training of a run from any step to any other.

    What a stage is depends on the step alone, and so does what it reads: a run that
    is killed in the middle of one goes on exactly.
    """

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        train_state: TrainState,
        strategy: tf.distribute.Strategy,
    ):
        """Checks every stage, and makes a trainer of the recipe's own settings.

        That one uses, and so makes operative, whatever the config has for a stage to
        replace. A run without stages has no other.

        Raises:
          UserError, models.variants.ModelError, input_pipeline.errors.DataError: see
            `make_trainer`.
        """
        self._experiment = experiment
        self._state = train_state
        self._strategy = strategy
        self._stages = experiment.stages(info)
        for stage in self._stages.values():
            form = stage_form(stage, train_state.model)
            make_augment(experiment, stage)
            make_mixing(experiment, stage, form, train_state.model)
        self.trainer = make_trainer(experiment, train_state, strategy, OWN)
        self._ready = OWN, 0  # the stage and the step that the trainer stands at

    def train(
        self, controller: orbit.Controller, progress: Progress, start: int, stop: int
    ) -> None:
        """Trains from step `start` to `stop`; every stage ends with a checkpoint."""
        for last, stage in self._stages.items():
            end = min(last, stop)
            if start < end:
                if self._ready != (stage, start):
                    self._enter(stage, start)
                    if len(self._stages) > 1:
                        progress.begin_stage(self._describe(last))
                controller.trainer = self.trainer
                progress.resume()
                with orbit_unheard():
                    controller.train(end)
                self._ready = stage, end
                start = end

    def _enter(self, stage: Stage, step: int) -> None:
        self.trainer.train_dataset = None  # frees its buffers at once
        self.trainer = make_trainer(
            self._experiment, self._state, self._strategy, stage, step
        )

    def _describe(self, last: int) -> str:
        """Returns the line that a person reads when the stage up to a step begins."""
        stage, number = self._stages[last], list(self._stages).index(last) + 1
        pixels = stage_form(stage, self._state.model).resolution
        others = {k: v for k, v in stage.given().items() if k != "resolution"}
        return ", ".join(
            [
                f"stage {number} of {len(self._stages)}, to step {last:,}: {pixels} px",
                *(f"{name} {value:g}" for name, value in others.items()),
            ]
        )


def make_trainer(
    experiment: Experiment,
    train_state: TrainState,
    strategy: tf.distribute.Strategy,
    stage: Stage,
    step: int = 0,
) -> Trainer:
    """Returns what trains the state by the settings of a stage, from a step on.

    Raises:
      UserError: the recipe has not what the stage has a setting for.
      models.variants.ModelError: the model cannot take images of this size.
      input_pipeline.errors.DataError: the data set, or mixing, refuses a setting.
    """
    with strategy.scope():
        model = stage_model(stage, train_state.model)
        form = input_form(model)
        dataset = train_dataset(experiment, strategy, form, stage, step)
        mixing = make_mixing(experiment, stage, form, model)
        return Trainer(experiment, train_state, strategy, dataset, model, mixing)


def train_dataset(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    form: InputForm,
    stage: Stage = OWN,
    start_batch: int = 0,
) -> tf.distribute.DistributedDataset:
    """Returns the endless training batches from global batch `start_batch` on."""
    augment = make_augment(experiment, stage)

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size = experiment.global_batch_size
        return experiment.train_data(
            data_dir=experiment.data_dir,
            split=experiment.train_split,
            **form.arguments(),
            batch_size=context.get_per_replica_batch_size(size),
            seed=experiment.seed,
            start=start_batch * size // context.num_input_pipelines,
            num_hosts=context.num_input_pipelines,
            host=context.input_pipeline_id,
            **({} if augment is None else {"augment": augment}),
        )

    return strategy.distribute_datasets_from_function(make)


def stage_form(stage: Stage, model: keras.Model) -> InputForm:
    """Returns what the model is fed with in a stage."""
    if stage.resolution is None:
        return input_form(model)
    return form_at_resolution(model, stage.resolution)


def stage_model(stage: Stage, model: keras.Model) -> keras.Model:
    """Returns the model of a stage, whose variables are those of `model`."""
    if not stage.given("resolution", "dropout_rate"):
        return model
    form = stage_form(stage, model)
    return at_resolution(model, form.resolution, dropout_rate=stage.dropout_rate)


def make_augment(experiment: Experiment, stage: Stage) -> Callable | None:
    """Returns the augmentation of a stage; None is the one that train_data has."""
    magnitude = stage.given("magnitude")
    if not magnitude:
        return None
    augment = config.bound(experiment.train_data, "augment")
    return _bind(augment, "the augment of Experiment.train_data", **magnitude)


def make_mixing(
    experiment: Experiment, stage: Stage, form: InputForm, model: keras.Model
) -> Callable | None:
    """Returns the mixing of a stage, of images in this form; None is no mixing."""
    mixing, alphas = experiment.mixing, stage.given("mixup_alpha", "cutmix_alpha")
    if alphas:
        mixing = _bind(mixing, "Experiment.mixing", **alphas)
    if mixing is None:
        return None
    mixing = functools.partial(mixing, layout=form.layout, patch_size=form.patch_size)
    # Two black images tell now, and not in the first step, what it does not like; and
    # what is not used before the config is compared counts as without effect.
    pair = tf.stack([tf.zeros(form.image_shape, tf.uint8)] * 2, axis=form.batch_axis)
    mixing(pair, tf.zeros([2, model.output_shape[-1]]), tf.zeros([2], tf.int64))
    return mixing


def _bind(function: Callable | None, what: str, **settings: Any) -> Callable:
    """Returns a function with some of its settings bound."""
    sets = f"Experiment.progressive sets {' and '.join(settings)}"
    if function is None:
        raise UserError(f"{sets}, but {what} is None")
    for name in settings.keys() - inspect.signature(function).parameters:
        raise UserError(f"{sets}, but {what} has no {name}")
    return functools.partial(function, **settings)
