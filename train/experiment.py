"""What a run is: the one object that a gin file fills in."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from common.errors import UserError
from input_pipeline.records import DatasetInfo
from models.parts import part_of_variable
from train import stage_rows
from train.distribution.replica import BATCH_NORM

_CALLABLES = ("build_model", "optimizer", "learning_rate", "train_data", "eval_data")
_COUNTS = (
    "global_batch_size",
    "eval_batch_size",
    "steps_per_loop",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "accumulation_steps",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Model, data and recipe of a run, read by training, evaluation and export.

    Callables come from gin with their own settings bound; what follows from other
    fields is handed to them when they are called.

    Attributes:
      build_model: (dtype, seed, make_seed_generator and, where replicas share batch
        norm, reduce_mean) -> Keras model: `models.efficientnet_x.build_model`.
      optimizer: (learning_rate) -> Keras optimizer.
      learning_rate: (global_batch_size, steps_per_epoch, train_steps) -> schedule.
      train_data: see `input_pipeline.dataset.train_dataset`.
      eval_data: see `input_pipeline.dataset.eval_dataset`.
      mixing: of the training images and their targets, on the device, see
        `input_pipeline.mixing.mixup_cutmix`; None is none.
      data_dir: folder of TFRecords with its dataset_info.json; local or gs://.
      train_split: the split to learn from.
      eval_split: the split to score.
      global_batch_size: images per training step, over all replicas.
      eval_batch_size: images per evaluation step, over all replicas.
      epochs: passes over the training split; may be a fraction.
      strategy: see `train.distribution.strategies.make_strategy`.
      precision: dtype policy of the layers; variables and logits are float32 always.
      label_smoothing: share of the target that is spread over all classes.
      weight_decay: factor of sum(v^2) / 2 over trainables outside batch norm.
      ema_decay: limit of the average's decay.
      steps_per_loop: training steps between two looks of the host at the device.
      checkpoint_every_steps: training steps between checkpoints.
      eval_every_epochs: passes between evaluations; the last step is always scored.
      keep_checkpoints: how many of the newest checkpoints stay.
      keep_checkpoint_every_hours: beside these, one in so many hours stays for good;
        None keeps none. The best one has a folder of its own anyway.
      seed: of initial weights, masks, data order, augmentation and mixing.
      batch_norm: how many replicas share the statistics of batch norm: "per_replica",
        "global", a number, or "reference", see
        `train.distribution.replica.make_reduce_mean`.
      clip_norm: the longest that the gradient may be, over all its variables; a longer
        one is shortened. None leaves it as it is.
      accumulation_steps: into so many micro-batches each replica cuts its part of the
        batch, one after the other, to save memory. The update is that of the whole
        batch, but batch norm sees one micro-batch at a time.
      pretrained: file or folder of the weights that a fresh run starts from, see
        `train.pretrained.load`; None starts from random ones.
      pretrained_averages: take the moving averages among these weights.
      new_head: leave their classifier out, for other classes.
      progressive: stages that come before the recipe's own settings, first to last: a
        mapping each, as in {"until_epoch": 87.5, "resolution": 128, "magnitude": 5}.
        What a stage may set beside its end, `train.stage_rows.Stage` says; the rest,
        and what is left of the run behind the last one, is as everywhere in the recipe.
        Evaluation always is at the model's own resolution.
      learning_rate_factors: factor of the learning rate by part of the model ("stem",
        "stage_1" ..., "head", "classifier"), 1 where nothing is said.
      non_finite: what to do when loss, gradient or weights are infinite or not a
        number: "stop", or "roll_back" to the last checkpoint and go on from there
        behind the batch that did it.
      max_roll_backs: how often in a run.
      preemption_deadline_seconds: time from SIGTERM to the end of the process, in which
        a checkpoint is written.
      hang_timeout_minutes: a process that gets nowhere for so long ends, so that a
        supervisor can start it again; None waits for ever.
      peak_teraflops: of a replica, to tell how much of it is used; None looks it up.
      profile_steps: first and last step of a profile for TensorBoard; None is none.
      example_images: how many training images TensorBoard shows for each stage.
    """

    build_model: Callable[..., keras.Model]
    optimizer: Callable[..., keras.Optimizer]
    learning_rate: Callable[..., keras.optimizers.schedules.LearningRateSchedule]
    train_data: Callable[..., tf.data.Dataset]
    eval_data: Callable[..., tf.data.Dataset]
    mixing: Callable[..., tuple[tf.Tensor, tf.Tensor]] | None = None
    data_dir: str
    train_split: str = "train"
    eval_split: str = "validation"
    global_batch_size: int
    eval_batch_size: int
    epochs: float
    strategy: str = "one_device"
    precision: str = "mixed_bfloat16"
    label_smoothing: float = 0.1
    weight_decay: float = 1e-5
    ema_decay: float = 0.9999
    steps_per_loop: int = 100
    checkpoint_every_steps: int = 1000
    eval_every_epochs: float = 10.0
    keep_checkpoints: int = 5
    keep_checkpoint_every_hours: float | None = None
    seed: int = 0
    batch_norm: str | int = "reference"
    clip_norm: float | None = None
    accumulation_steps: int = 1
    pretrained: str | None = None
    pretrained_averages: bool = True
    new_head: bool = False
    progressive: Sequence[Mapping[str, Any]] = ()
    learning_rate_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    non_finite: str = "stop"
    max_roll_backs: int = 3
    preemption_deadline_seconds: float = 25.0
    hang_timeout_minutes: float | None = 30.0
    peak_teraflops: float | None = None
    profile_steps: tuple[int, int] | None = None
    example_images: int = 8

    def __post_init__(self):
        for name in _CALLABLES:
            value = getattr(self, name)
            self._require(name, callable(value), "a function, as in @module.function")
        for name in _COUNTS:
            value = getattr(self, name)
            self._require(name, type(value) is int and value > 0, "a whole number > 0")
        for name in ("epochs", "eval_every_epochs"):
            value = getattr(self, name)
            self._require(name, type(value) in (int, float) and value > 0, "> 0")
        for name in ("label_smoothing", "ema_decay"):
            value = getattr(self, name)
            self._require(
                name, type(value) in (int, float) and 0 <= value < 1, "in [0, 1)"
            )
        self._require("weight_decay", self.weight_decay >= 0, "0 or larger")
        shared = self.batch_norm
        self._require(
            "batch_norm",
            shared in BATCH_NORM or (type(shared) is int and shared > 0),
            f"{', '.join(map(repr, BATCH_NORM))} or a whole number > 0",
        )
        self._require_guards()
        self._require(
            "pretrained",
            self.pretrained is None
            or (type(self.pretrained) is str and self.pretrained != ""),
            "None or a path",
        )
        for name in ("pretrained_averages", "new_head"):
            self._require(name, type(getattr(self, name)) is bool, "True or False")
        factors = self.learning_rate_factors
        self._require(
            "learning_rate_factors",
            isinstance(factors, Mapping)
            and all(type(f) in (int, float) and f >= 0 for f in factors.values()),
            "a mapping from parts of the model to factors >= 0, as in {'stem': 0.1}",
        )
        self._require(
            "mixing",
            self.mixing is None or callable(self.mixing),
            "None or a function, as in @mixing.mixup_cutmix",
        )
        self._require_stages_within_epochs()
        self._require(
            "precision",
            self.precision in ("float32", "mixed_bfloat16"),
            "'float32' or 'mixed_bfloat16'",
        )

    def _require(self, name: str, fulfilled: bool, what: str) -> None:
        if not fulfilled:
            value = getattr(self, name)
            raise UserError(f"Experiment.{name} = {value!r}: it has to be {what}")

    def _require_guards(self) -> None:
        """Refuses what is out of range of the settings that watch over a run."""
        for name in (
            "clip_norm",
            "keep_checkpoint_every_hours",
            "hang_timeout_minutes",
            "peak_teraflops",
        ):
            value = getattr(self, name)
            self._require(name, value is None or _is_positive(value), "None or > 0")
        seconds = self.preemption_deadline_seconds
        self._require("preemption_deadline_seconds", _is_positive(seconds), "> 0")
        for name in ("max_roll_backs", "example_images"):
            value = getattr(self, name)
            self._require(
                name, type(value) is int and value >= 0, "a whole number >= 0"
            )
        self._require(
            "non_finite",
            self.non_finite in ("stop", "roll_back"),
            "'stop' or 'roll_back'",
        )
        steps = self.profile_steps
        self._require(
            "profile_steps",
            steps is None
            or (
                isinstance(steps, tuple | list)
                and [type(step) for step in steps] == [int, int]
                and 0 <= steps[0] < steps[1]
            ),
            "None or the first and the last step, as in (100, 110)",
        )

    def _require_stages_within_epochs(self) -> None:
        last = max(stage_rows.read(self.progressive), default=0)
        if last > self.epochs:
            raise UserError(
                f"Experiment.progressive ends at epoch {last}, behind the end of the "
                f"run: Experiment.epochs = {self.epochs}"
            )

    def steps_per_epoch(self, info: DatasetInfo) -> float:
        """Returns training images / global batch; in general not a whole number."""
        return info.split(self.train_split).total / self.global_batch_size

    def train_steps(self, info: DatasetInfo) -> int:
        """Returns the number of updates of the whole run."""
        return max(1, int(self.epochs * self.steps_per_epoch(info)))

    def stages(self, info: DatasetInfo) -> dict[int, stage_rows.Stage]:
        """Returns the stages of the run by the step that ends each; one at least."""
        return stage_rows.by_last_step(
            stage_rows.read(self.progressive),
            self.steps_per_epoch(info),
            self.train_steps(info),
        )

    def eval_interval(self, info: DatasetInfo) -> int:
        """Returns the number of updates from one evaluation to the next."""
        return max(1, round(self.eval_every_epochs * self.steps_per_epoch(info)))

    def eval_steps(self, info: DatasetInfo) -> int:
        """Returns the batches that hold the evaluation split, the last one padded."""
        return math.ceil(info.split(self.eval_split).total / self.eval_batch_size)

    def make_learning_rate(self, info: DatasetInfo) -> Any:
        """Returns the schedule of this run."""
        return self.learning_rate(
            global_batch_size=self.global_batch_size,
            steps_per_epoch=self.steps_per_epoch(info),
            train_steps=self.train_steps(info),
        )

    def check_model(self, model: keras.Model, info: DatasetInfo) -> None:
        """Raises UserError when labels of the data set have no logit."""
        classes, labels = model.output_shape[-1], len(info.label_names)
        if labels > classes:
            raise UserError(
                f"{self.data_dir} has {labels} labels but the model has {classes} "
                f"classes; bind efficientnet_x.build_model.num_classes = {labels}"
            )

    def factors_of(self, model: keras.Model) -> list[float]:
        """Returns the factor of the learning rate of every trainable variable.

        Raises:
          UserError: `learning_rate_factors` names a part that the model has not, or
            that is frozen.
        """
        part_of = part_of_variable(model)
        parts = dict.fromkeys(part_of[v.path] for v in model.trainable_variables)
        for part in self.learning_rate_factors:
            if part not in parts:
                raise UserError(
                    f"Experiment.learning_rate_factors: {model.name} has no part "
                    f"{part!r} that learns, only {', '.join(parts)}"
                )
        return [
            self.learning_rate_factors.get(part_of[v.path], 1.0)
            for v in model.trainable_variables
        ]

    def check_replicas(self, num_replicas: int) -> None:
        """Raises UserError when the replicas do not divide the batches."""
        parts = {
            "global_batch_size": num_replicas * self.accumulation_steps,
            "eval_batch_size": num_replicas,
        }
        for field, count in parts.items():
            size = getattr(self, field)
            if size % count:
                steps = self.accumulation_steps
                raise UserError(
                    f"Experiment.{field} = {size} does not divide by the "
                    f"{num_replicas} replicas"
                    + f" x accumulation_steps = {steps}"
                    * (count > num_replicas)
                    + "; the nearest that does is "
                    f"{max(1, round(size / count)) * count}"
                )


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf
