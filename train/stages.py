"""Takes a run through its stages: each has a trainer of its own for the same state."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo
from models import complexity
from models.input_form import InputForm, input_form
from models.parts import (
    built_by_us,
    layers_of_parts,
    learning_variables,
    part_of_variable,
    require_learning,
)
from models.resize import at_resolution, form_at_resolution
from train import datasets
from train.experiment import Experiment
from train.stage_rows import Stage
from train.state import TrainState
from train.trainer import Trainer


class Stages:
    """The stages of a run; what each is depends on the step alone.

    So does what it reads, but for batches that were skipped: a run that is killed in
    the middle of a stage goes on exactly.

    Attributes:
      state: what all stages train.
      strategy: of the training.
    """

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        train_state: TrainState,
        strategy: tf.distribute.Strategy,
    ):
        """Check every stage; the first trainer is made by `enter`.

        Raises:
          UserError, models.errors.ModelError, input_pipeline.errors.DataError: see
            `check`.
        """
        self.state = train_state
        self.strategy = strategy
        self._experiment = experiment
        self._stages = experiment.stages(info)
        check(self._stages.values(), experiment, train_state.model)
        self._program: Stage | None = None
        self._trainer: Trainer | None = None

    def __len__(self) -> int:
        return len(self._stages)

    @property
    def trainer(self) -> Trainer:
        """That of the stage that was entered last."""
        assert self._trainer is not None, "no stage was entered"
        return self._trainer

    def ends(self, step: int) -> bool:
        """Whether the run is at its end."""
        return step >= max(self._stages)

    def end(self, step: int) -> int:
        """Return the step that ends the stage to which `step` belongs."""
        return next(last for last in self._stages if step < last)

    def enter(self, step: int, batch: int) -> None:
        """Make `trainer` ready for a step.

        Args:
          step: updates so far.
          batch: number of the global batch that comes next.

        Raises:
          UserError, input_pipeline.errors.DataError: the data cannot be opened.
        """
        stage = self._stages[self.end(step)]
        if self._trainer is None or stage.program != self._program:
            if self._trainer is not None:
                self._trainer.set_dataset(None, batch)  # frees its buffers
            with self.strategy.scope():
                self._trainer = make_trainer(
                    self._experiment, self.state, self.strategy, stage
                )
            self._program = stage.program
        if self._trainer.dataset is None or self._trainer.position != batch:
            form = stage_form(stage, self.state.model)
            with self.strategy.scope():
                dataset = datasets.train_dataset(
                    self._experiment, self.strategy, form, stage, batch
                )
            self._trainer.set_dataset(dataset, batch)

    def describe(self, step: int) -> str:
        """Return the line that a person reads when the stage of a step begins."""
        last = self.end(step)
        number = list(self._stages).index(last) + 1
        stage = self._stages[last]
        pixels = stage_form(stage, self.state.model).resolution
        apart = "resolution", "frozen", "frozen_batch_norm"
        others = {k: v for k, v in stage.given().items() if k not in apart}
        return ", ".join(
            [
                f"stage {number} of {len(self)}, to step {last:,}: {pixels} px",
                *(f"{name} {value:g}" for name, value in others.items()),
                *self._what_learns(stage),
            ]
        )

    def _what_learns(self, stage: Stage) -> list[str]:
        """Return which parts learn in words, if that may differ between stages."""
        model = self.state.model
        if not any(one.frozen for one in self._stages.values()):
            return []
        part_of = part_of_variable(model)
        learning = learning_variables(model, stage.frozen or ())
        learn = list(dict.fromkeys(part_of[v.path] for v in learning))
        every = set(part_of.values())
        return [
            f"only {', '.join(learn)} learning"
            if every > set(learn)
            else "all learning"
        ]

    def macs(self, step: int) -> int | None:
        """Return the multiply-accumulates of one image; None of a model of others'."""
        model = self.state.model
        if not built_by_us(model):
            return None
        form = stage_form(self._stages[self.end(step)], model)
        return complexity.of_model(model, form.resolution).macs

    def example_images(
        self, step: int, *, batch: int, count: int, num_hosts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `datasets.example_images` does for the stage of a step."""
        stage = self._stages[self.end(step)]
        return datasets.example_images(
            self._experiment,
            stage_form(stage, self.state.model),
            stage,
            batch=batch,
            count=count,
            num_hosts=num_hosts,
        )


def check(stages: Iterable[Stage], experiment: Experiment, model: keras.Model) -> None:
    """Refuse, before a run begins, what a later stage of it could not do.

    Raises:
      UserError: the recipe has not what a stage has a setting for.
      models.errors.ModelError: the model cannot take images of this size, has no such
        part, or would have nothing to learn.
      input_pipeline.errors.DataError: mixing refuses a setting.
    """
    for stage in stages:
        form = stage_form(stage, model)
        if stage.still_statistics:
            layers_of_parts(model, stage.still_statistics)
            require_learning(model, stage.frozen or ())
        datasets.make_augment(experiment, stage)
        datasets.make_mixing(experiment, stage, form, model.output_shape[-1])


def make_trainer(
    experiment: Experiment,
    train_state: TrainState,
    strategy: tf.distribute.Strategy,
    stage: Stage,
) -> Trainer:
    """Return what trains the state by the settings of a stage, as yet without data.

    To be called under the strategy's scope; errors are those of `check`.
    """
    model = stage_model(stage, train_state.model)
    mixing = datasets.make_mixing(
        experiment, stage, input_form(model), model.output_shape[-1]
    )
    return Trainer(
        experiment,
        train_state,
        strategy,
        model,
        mixing,
        frozen=stage.frozen or (),
        still_statistics=stage.still_statistics,
    )


def stage_form(stage: Stage, model: keras.Model) -> InputForm:
    """Return what the model is fed with in a stage."""
    if stage.resolution is None:
        return input_form(model)
    return form_at_resolution(model, stage.resolution)


def stage_model(stage: Stage, model: keras.Model) -> keras.Model:
    """Return the model of a stage, whose variables are those of `model`."""
    if not (stage.given("resolution", "dropout_rate") or stage.still_statistics):
        return model
    form = stage_form(stage, model)
    return at_resolution(
        model,
        form.resolution,
        dropout_rate=stage.dropout_rate,
        as_in_inference=stage.still_statistics,
    )
