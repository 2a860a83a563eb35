"""Takes a run through its stages: each has a trainer of its own for the same state."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from input_pipeline.records import DatasetInfo
from models import complexity
from models.input_form import InputForm, input_form
from models.parts import is_ours
from models.resize import at_resolution, form_at_resolution
from train.datasets import make_augment, make_mixing, train_dataset
from train.experiment import Experiment
from train.stage_rows import BASE_STAGE, Stage
from train.state import TrainState
from train.trainer import Trainer


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
          UserError, models.errors.ModelError, input_pipeline.errors.DataError: see
            `make_trainer`.
        """
        self.state = train_state
        self.strategy = strategy
        self._experiment = experiment
        self._stages = experiment.stages(info)
        check(self._stages.values(), experiment, train_state.model)
        self.trainer = make_trainer(experiment, train_state, strategy, BASE_STAGE)
        self._stage = BASE_STAGE
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
      UserError, models.errors.ModelError, input_pipeline.errors.DataError: see
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
      models.errors.ModelError: the model cannot take images of this size.
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
