"""What a run is: the one object that a gin file fills in."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from common import checks
from common.checks import Rule, optional
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from models.parts import part_of_variable
from train import stage_rows
from train.distribution.replica import BATCH_NORM
from train.policy import Policy
from train.schedule import WarmupsOfStages
from train.small_data import class_weights as class_weighting

# Whether a run may go on under another value: "always", since no number of the training
# hangs on it; when it is "accepted" by --accept_config_changes; "never".
MayChange = Literal["always", "accepted", "never"]
# Names that `train.distribution.strategies` knows; here they are only names.
STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")
# What is refused as a mistake unless it is said to be meant, see train.start.counts.
INTENDED = ("large_batch", "one_class", "spare_outputs")


def setting(
    rule: Rule,
    doc: str,
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    may_change: MayChange = "accepted",
) -> Any:
    """Make a field of Experiment: all that there is to say of a setting.

    Args:
      rule: what makes sense as its value.
      doc: what it is, as a person reads it.
      default: its value where the config says nothing; none asks for one.
      default_factory: makes a default that can be changed.
      may_change: in the middle of a run.
    """
    metadata = {"rule": rule, "doc": doc, "may_change": may_change}
    return dataclasses.field(
        default=default, default_factory=default_factory, metadata=metadata
    )


def function(
    doc: str,
    handed_over: str,
    *,
    sometimes: str = "",
    default: Any = dataclasses.MISSING,
    may_change: MayChange = "accepted",
) -> Any:
    """Make a field of Experiment that is a function, with its own settings bound.

    Args:
      doc: what it does.
      handed_over: names of the parameters that follow from other fields or from the
        running program, and are handed over at the call: they are no settings.
      sometimes: those of which it is called without, too.
      default: None where a run can do without.
      may_change: to another function in the middle of a run.
    """
    rule = checks.function(keywords=handed_over.split())
    metadata = {
        "rule": rule if default is dataclasses.MISSING else optional(rule),
        "doc": doc,
        "may_change": may_change,
        "handed_over": frozenset(f"{handed_over} {sometimes}".split()),
    }
    return dataclasses.field(default=default, metadata=metadata)


_MOST_STEPS = 2**31 - 1  # what a loop in a graph counts to
MOST_IMAGES = 2**20  # in a batch
_MOST_EPOCHS = 10**6
_PASSES = checks.positive(_MOST_EPOCHS)
_STEPS = checks.whole(1, _MOST_STEPS)
_IMAGES = checks.whole(1, MOST_IMAGES)
_BATCH_NORM = Rule(
    lambda value: checks.one_of(*BATCH_NORM).holds(value) or _IMAGES.holds(value),
    f"{', '.join(map(repr, BATCH_NORM))} or {_IMAGES.what}",
)
_FACTORS = checks.mapping(
    lambda part: isinstance(part, str),
    checks.between(0, 1000).holds,
    "from parts of the model to factors of 0 to 1,000, as in {'stem': 0.1}",
)
_FIRST_AND_LAST = Rule(
    lambda value: (
        isinstance(value, tuple | list)
        and [type(step) for step in value] == [int, int]
        and 0 <= value[0] < value[1] <= _MOST_STEPS
    ),
    "the first and the last step, as in (100, 110)",
)
_STAGES = checks.items(lambda row: isinstance(row, Mapping), "a list of mappings")
_INTENDED = checks.items(
    lambda name: checks.one_of(*INTENDED).holds(name),
    f"a list of {checks.one_of(*INTENDED).what}",
)
_DATA = "data_dir split resolution patch_size layout batch_size num_hosts host"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Model, data and recipe of a run, read by training, evaluation and export.

    Each field says what it is, what makes sense as its value and whether a run may go
    on under another one.
    """

    build_model: Callable[..., keras.Model] = function(
        "makes the Keras model, as models.efficientnet_x.build_model",
        "dtype seed make_seed_generator",
        sometimes="reduce_mean",
    )
    optimizer: Callable[..., keras.Optimizer] = function(
        "makes the Keras optimizer, see train.optimizer", "learning_rate"
    )
    learning_rate: Callable[..., keras.optimizers.schedules.LearningRateSchedule] = (
        function(
            "makes the schedule, see train.schedule",
            "global_batch_size steps_per_epoch train_steps",
        )
    )
    train_data: Callable[..., tf.data.Dataset] = function(
        "makes the batches to learn from, see input_pipeline.dataset.train_dataset",
        f"{_DATA} seed start",
    )
    eval_data: Callable[..., tf.data.Dataset] = function(
        "makes the batches to score, see input_pipeline.dataset.eval_dataset",
        f"{_DATA} num_batches",
    )
    mixing: Callable[..., tuple[tf.Tensor, tf.Tensor]] | None = function(
        "mixes images and targets on the device, as input_pipeline.mixing.mixup_cutmix",
        "images targets seed layout patch_size",
        default=None,
    )
    policy: Callable[..., Policy] | None = function(
        "makes what chooses, at each step and on each replica, which part of the model "
        "is trained, and learns from it, see train.policy and search.controller",
        "seed train_steps make_seed_generator",
        default=None,
        # Its variables are in the checkpoints, or they are not.
        may_change="never",
    )
    data_dir: str = setting(
        checks.PATH,
        "folder of TFRecords with its dataset_info.json; local or gs://. The same data "
        "may lie elsewhere",
        may_change="always",  # what lies there is compared, see train.run_data
    )
    train_split: str = setting(checks.TEXT, "the split to learn from", default="train")
    eval_split: str = setting(checks.TEXT, "the split to score", default="validation")
    global_batch_size: int = setting(
        _IMAGES,
        "images per training step, over all replicas",
        # The step tells how many images were used up: another batch would shift them.
        may_change="never",
    )
    eval_batch_size: int = setting(
        _IMAGES, "images per evaluation step, over all replicas"
    )
    epochs: float = setting(
        _PASSES, "passes over the training split; may be a fraction"
    )
    strategy: str = setting(
        checks.one_of(*STRATEGIES),
        "the devices, see train.distribution.strategies",
        default="one_device",
    )
    precision: str = setting(
        checks.one_of("float32", "mixed_bfloat16", "mixed_float16"),
        "dtype policy of the layers; variables and logits are float32 always. "
        "'mixed_float16', with a loss scale, is for GPUs without bfloat16 (V100, T4)",
        default="mixed_bfloat16",
    )
    label_smoothing: float = setting(
        checks.BELOW_ONE,
        "share of the target that is spread over all classes",
        default=0.1,
    )
    class_weights: str | Mapping[str, float] | None = setting(
        class_weighting.RULE,
        "how much an image counts in the training loss, by its class: names of classes "
        'to weights, 1 where nothing is said; "balanced" is inverse to the number of '
        "the class's training images. The loss is the weighted mean over the global "
        "batch. None is the plain mean. See train.small_data.class_weights",
        default=None,
    )
    weight_decay: float = setting(
        checks.between(0, 100),
        "factor of sum(v^2) / 2 over trainables outside batch norm",
        default=1e-5,
    )
    ema_decay: float = setting(
        checks.BELOW_ONE, "limit of the average's decay", default=0.9999
    )
    steps_per_loop: int = setting(
        _STEPS,
        "training steps between two looks of the host at the device",
        default=100,
        may_change="always",
    )
    checkpoint_every_steps: int = setting(
        _STEPS,
        "training steps between checkpoints",
        default=1000,
        may_change="always",
    )
    eval_every_epochs: float = setting(
        _PASSES,
        "passes between evaluations; the last step is always scored",
        default=10.0,
        may_change="always",
    )
    early_stopping_patience: int | None = setting(
        optional(_STEPS),
        "after so many evaluations in a row with no better top-1 of the averaged "
        "weights the run ends; None trains to the last step",
        default=None,
        may_change="always",
    )
    early_stopping_min_delta: float = setting(
        checks.BELOW_ONE,
        "a top-1 that is better by no more than this, a share, is no better",
        default=0.0,
        may_change="always",
    )
    keep_checkpoints: int = setting(
        checks.whole(1, 10**6),
        "how many of the newest checkpoints stay",
        default=5,
        may_change="always",
    )
    keep_checkpoint_every_hours: float | None = setting(
        optional(checks.positive(10**6)),
        "beside these, one in so many hours stays for good; None keeps none. The best "
        "one has a folder of its own anyway",
        default=None,
        may_change="always",
    )
    seed: int = setting(
        checks.whole(-(2**31), 2**63 - 1),
        "of initial weights, masks, data order, augmentation and mixing",
        default=0,
    )
    batch_norm: str | int = setting(
        _BATCH_NORM,
        "how many replicas share the statistics of batch norm, see "
        "train.distribution.replica.make_reduce_mean",
        default="reference",
    )
    clip_norm: float | None = setting(
        optional(checks.between(1e-9, 10**9)),
        "the longest that the gradient may be, over all its variables; a longer one is "
        "shortened. None leaves it as it is",
        default=None,
    )
    accumulation_steps: int = setting(
        _IMAGES,
        "into so many micro-batches each replica cuts its part of the batch, one after "
        "the other, to save memory. The update is that of the whole batch, but batch "
        "norm sees one micro-batch at a time",
        default=1,
    )
    pretrained: str | None = setting(
        optional(Rule(checks.PATH.holds, "a path", of_path=True)),
        "file or folder of the weights that a fresh run starts from, see "
        "train.weights.pretrained.load; None starts from random ones",
        default=None,
    )
    pretrained_averages: bool = setting(
        checks.SWITCH, "take the moving averages among these weights", default=True
    )
    new_head: bool = setting(
        checks.SWITCH,
        "leave their classifier out, for other classes; the new one begins near zero",
        default=False,
    )
    progressive: Sequence[Mapping[str, Any]] = setting(
        _STAGES,
        "stages that come before the recipe's own settings, first to last: a mapping "
        'each, as in {"until_epoch": 87.5, "resolution": 128, "magnitude": 5}. What a '
        "stage may set beside its end, train.stage_rows.Stage says; the rest, and what "
        "is left of the run behind the last one, is as everywhere in the recipe. "
        "Evaluation always is at the model's own resolution",
        default=(),
    )
    learning_rate_factors: Mapping[str, float] = setting(
        _FACTORS,
        'factor of the learning rate by part of the model ("stem", "stage_1" ..., '
        '"head", "classifier"), 1 where nothing is said',
        default_factory=dict,
    )
    non_finite: str = setting(
        checks.one_of("stop", "roll_back"),
        "what to do when loss, gradient or weights are infinite or not a number: "
        '"stop", or "roll_back" to the last checkpoint and go on from there behind the '
        "batch that did it",
        default="stop",
        may_change="always",
    )
    max_roll_backs: int = setting(
        checks.whole(0, 10**6), "how often in a run", default=3, may_change="always"
    )
    preemption_deadline_seconds: float = setting(
        checks.positive(10**6),
        "time from SIGTERM to the end of the process, in which a checkpoint is written",
        default=25.0,
        may_change="always",
    )
    hang_timeout_minutes: float | None = setting(
        optional(checks.positive(10**6)),
        "a process that gets nowhere for so long ends, so that a supervisor can start "
        "it again; None waits for ever",
        default=30.0,
        may_change="always",
    )
    peak_teraflops: float | None = setting(
        optional(checks.positive(10**9)),
        "of a replica, to tell how much of it is used; None looks it up",
        default=None,
        may_change="always",
    )
    profile_steps: tuple[int, int] | None = setting(
        optional(_FIRST_AND_LAST),
        "first and last step of a profile for TensorBoard; None is none",
        default=None,
        may_change="always",
    )
    example_images: int = setting(
        checks.whole(0, 1024),
        "how many training images TensorBoard shows for each stage",
        default=8,
        may_change="always",
    )
    mistake_images: int = setting(
        checks.whole(0, 200),
        "how many of the evaluation's surest mistakes the end of a run shows as "
        "pictures, beside confusion matrix and accuracy of each class, see "
        "train.mistakes.report; 0 tells nothing of them",
        default=24,
        may_change="always",
    )
    intended: Sequence[str] = setting(
        _INTENDED,
        "what would be refused as a mistake and is meant: a batch larger than the "
        "training split, data of one class, more outputs than classes",
        default=(),
        may_change="always",
    )

    def __post_init__(self):
        checks.require_fields(self)
        last = max(stage_rows.read(self.progressive), default=0)
        if last > self.epochs:
            raise UserError(
                f"Experiment.progressive ends at epoch {last}, behind the end of the "
                f"run: Experiment.epochs = {self.epochs}"
            )

    def steps_per_epoch(self, info: DatasetInfo) -> float:
        """Return training images / global batch; in general not a whole number."""
        return info.split(self.train_split).total / self.global_batch_size

    def train_steps(self, info: DatasetInfo) -> int:
        """Return the number of updates of the whole run."""
        return self.steps_of(info.split(self.train_split).total)

    def steps_of(self, images: int) -> int:
        """Return the number of updates of a run on so many images."""
        return max(1, int(self.epochs * (images / self.global_batch_size)))

    def stages(self, info: DatasetInfo) -> dict[int, stage_rows.Stage]:
        """Return the stages of the run by the step that ends each; one at least."""
        return stage_rows.by_last_step(
            stage_rows.read(self.progressive),
            self.steps_per_epoch(info),
            self.train_steps(info),
        )

    def eval_interval(self, info: DatasetInfo) -> int:
        """Return the number of updates from one evaluation to the next."""
        return max(1, round(self.eval_every_epochs * self.steps_per_epoch(info)))

    def eval_steps(self, info: DatasetInfo) -> int:
        """Return the batches that hold the evaluation split, the last one padded."""
        return math.ceil(info.split(self.eval_split).total / self.eval_batch_size)

    def make_learning_rate(self, info: DatasetInfo) -> Any:
        """Return the schedule of this run, with the warmups of its stages."""
        steps_per_epoch = self.steps_per_epoch(info)
        schedule = self.learning_rate(
            global_batch_size=self.global_batch_size,
            steps_per_epoch=steps_per_epoch,
            train_steps=self.train_steps(info),
        )
        warmups = stage_rows.warmups(self.stages(info), steps_per_epoch)
        return WarmupsOfStages(schedule, warmups) if warmups else schedule

    def make_model(self, classes: int, **given: Any) -> keras.Model:
        """Return the network; with an output a class where the config does not say.

        Args:
          classes: of the data.
          **given: of `build_model`'s parameters.

        Raises:
          models.errors.ModelError: a setting makes no sense.
        """
        if self.counts_classes:
            given["num_classes"] = classes
        return self.build_model(**given)

    @property
    def counts_classes(self) -> bool:
        """Whether the network has as many outputs as the data have classes."""
        settings = getattr(self.build_model, "keywords", {})
        return settings.get("num_classes", 0) is None

    def check_model(self, model: keras.Model, info: DatasetInfo) -> None:
        """Raise UserError when labels of the data set have no logit."""
        classes, labels = model.output_shape[-1], len(info.label_names)
        if labels > classes:
            raise UserError(
                f"{self.data_dir} has {labels} labels but the model has {classes} "
                f"classes; bind efficientnet_x.build_model.num_classes = {labels}"
            )

    def factors_of(self, model: keras.Model) -> list[float]:
        """Return the factor of the learning rate of every trainable variable.

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
        """Raise UserError when the replicas do not divide the batches."""
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
