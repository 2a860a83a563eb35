"""Takes a run through its stages: each has a trainer of its own for the same state."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipeline.records import DatasetInfo
from models import complexity
from models.resize import at_resolution, form_at_resolution
from models.rewrites import InputForm, input_form
from models.transfer import is_ours
from train import config
from train.errors import UserError
from train.experiment import Experiment
from train.stages import Stage
from train.state import TrainState
from train.step import Trainer

OWN = Stage()  # the recipe's own settings


class Stages:
    """The stages of a run; what each is depends on the step alone.

    So does what it reads, but for batches that were passed over: a run that is killed
    in the middle of a stage goes on exactly.

    Attributes:
      state: what all stages train.
      strategy: of the training.
      trainer: of the stage that was entered last.
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
        self.state = train_state
        self.strategy = strategy
        self._experiment = experiment
        self._stages = experiment.stages(info)
        check(self._stages.values(), experiment, train_state.model)
        self.trainer = make_trainer(experiment, train_state, strategy, OWN)
        self._stage = OWN
        self._entered: int | None = None  # the stage, by the step that ends it

    def __len__(self) -> int:
        return len(self._stages)

    def end(self, step: int) -> int:
        """Returns the step that ends the stage to which `step` belongs."""
        return next(last for last in self._stages if step < last)

    def enter(self, step: int, batch: int) -> bool:
        """Makes `trainer` ready for a step.

        Args:
          step: updates so far.
          batch: number of the global batch that comes next.

        Returns:
          Whether another stage begins, or the first of this process.
        """
        last = self.end(step)
        stage = self._stages[last]
        if stage != self._stage:
            self.trainer.feed(None, batch)
            self.trainer = make_trainer(
                self._experiment, self.state, self.strategy, stage, batch
            )
            self._stage = stage
        if self.trainer.position != batch:
            form = stage_form(stage, self.state.model)
            with self.strategy.scope():
                dataset = train_dataset(
                    self._experiment, self.strategy, form, stage, batch
                )
            self.trainer.feed(dataset, batch)
        begins = last != self._entered
        self._entered = last
        return begins

    def describe(self, step: int) -> str:
        """Returns the line that a person reads when the stage of a step begins."""
        last = self.end(step)
        number = list(self._stages).index(last) + 1
        stage = self._stages[last]
        pixels = stage_form(stage, self.state.model).resolution
        others = {k: v for k, v in stage.given().items() if k != "resolution"}
        return ", ".join(
            [
                f"stage {number} of {len(self)}, to step {last:,}: {pixels} px",
                *(f"{name} {value:g}" for name, value in others.items()),
            ]
        )

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one image of this stage; None of another's model."""
        model = self.state.model
        if not is_ours(model):
            return None
        form = stage_form(self._stage, model)
        return complexity.of_model(model, form.resolution).macs

    def example_images(
        self, batch: int, count: int, *, num_hosts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first images of a global batch as the trainer has them made.

        They are those of the first host, before mixing.

        Args:
          batch: number of the global batch.
          count: how many images.
          num_hosts: that share the data.

        Returns:
          (uint8[count, S, S, 3], int[count] labels; -1 marks a broken record).
        """
        experiment = self._experiment
        form = stage_form(self._stage, self.state.model)
        augment = make_augment(experiment, self._stage)
        images = experiment.train_data(
            data_dir=experiment.data_dir,
            split=experiment.train_split,
            resolution=form.resolution,
            batch_size=count,
            seed=experiment.seed,
            start=batch * experiment.global_batch_size // num_hosts,
            num_hosts=num_hosts,
            host=0,
            service=None,  # the images are the same wherever they are decoded
            **({} if augment is None else {"augment": augment}),
        )
        element = next(images.as_numpy_iterator())
        return element["image"], element["label"]


def check(stages: Iterable[Stage], experiment: Experiment, model: keras.Model) -> None:
    """Refuses, before a run begins, what a later stage of it could not do.

    Raises:
      UserError, models.variants.ModelError, input_pipeline.errors.DataError: see
        `make_trainer`.
    """
    for stage in stages:
        form = stage_form(stage, model)
        make_augment(experiment, stage)
        make_mixing(experiment, stage, form, model)


def make_trainer(
    experiment: Experiment,
    train_state: TrainState,
    strategy: tf.distribute.Strategy,
    stage: Stage,
    start_batch: int = 0,
) -> Trainer:
    """Returns what trains the state by the settings of a stage, from a batch on.

    Raises:
      UserError: the recipe has not what the stage has a setting for.
      models.variants.ModelError: the model cannot take images of this size.
      input_pipeline.errors.DataError: the data set, or mixing, refuses a setting.
    """
    with strategy.scope():
        model = stage_model(stage, train_state.model)
        form = input_form(model)
        dataset = train_dataset(experiment, strategy, form, stage, start_batch)
        mixing = make_mixing(experiment, stage, form, model)
        trainer = Trainer(experiment, train_state, strategy, dataset, model, mixing)
    trainer.position = start_batch
    return trainer


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
