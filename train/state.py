"""Everything that training changes, and nothing else."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo
from models.initializers import derive_seed
from models.parts import learning_variables
from train import ema
from train import optimizer as optimizers
from train.distribution import replica, slices
from train.experiment import Experiment
from train.numerics.loss_scale import LossScale
from train.policy import Policy
from train.small_data import class_weights

_LEARNT = "model/", "ema/", "optimizer/"  # parts of the names in a checkpoint


@dataclasses.dataclass(frozen=True)
class TrainState:
    """Model, its average, optimizer, and what tells the position in the data.

    The step is the optimizer's counter. There are no random states: seeds follow from
    the step (see `train.distribution.replica`).

    Attributes:
      model: what learns.
      ema_model: its moving average.
      optimizer: of the model.
      skipped_batches: int64, batches that were skipped because they gave a loss
        that is not finite: the next batch has the number step + skipped_batches.
      roll_backs: int64, how often.
      statistics: the model's moving statistics.
      micro_batch: of a replica's batch, which is being worked on.
      loops_can_reduce: whether batch norm may average over replicas inside a loop of a
        graph.
      class_weights: float32[C], what an image counts in the loss by its class; None is
        one and all.
      loss_scale: of float16 alone; None where the loss is not scaled.
      policy: chooses which part of the model a step trains; None where it is all.
    """

    model: keras.Model
    ema_model: keras.Model
    optimizer: keras.Optimizer
    skipped_batches: tf.Variable
    roll_backs: tf.Variable
    statistics: replica.MovingStatistics
    micro_batch: replica.MicroBatch
    loops_can_reduce: bool
    class_weights: np.ndarray | None = None
    loss_scale: LossScale | None = None
    policy: Policy | None = None

    @property
    def models(self) -> dict[str, keras.Model]:
        """The models to score, by the prefix of their scores."""
        return {"": self.model, "ema_": self.ema_model}

    @property
    def step(self) -> tf.Variable:
        """Updates done so far, an integer scalar."""
        return self.optimizer.iterations.value

    @property
    def next_batch(self) -> int:
        """Number of the global batch that the next step takes."""
        return int(self.step.numpy()) + int(self.skipped_batches.numpy())

    def batch(self) -> tf.Tensor:
        """Return int64[], the number of the global batch of a step, in its graph."""
        return tf.cast(self.step, tf.int64) + self.skipped_batches

    def variables(self) -> dict[str, tf.Variable]:
        """Return everything that a checkpoint holds, by name."""
        counter = self.optimizer.iterations
        slots = [v for v in self.optimizer.variables if v is not counter]
        # Keras numbers the optimizers of a process: rmsprop, rmsprop_1, ...
        strip = f"{self.optimizer.name}/"
        policy = {} if self.policy is None else self.policy.variables()
        return {
            "step": self.step,
            "skipped_batches": self.skipped_batches,
            "roll_backs": self.roll_backs,
            **by_path("model", self.model.weights),
            **by_path("ema", self.ema_model.weights),
            **by_path("optimizer", slots, strip=strip),
            **({} if self.loss_scale is None else self.loss_scale.variables()),
            **{f"policy/{name}": variable for name, variable in policy.items()},
        }

    def updated(self) -> list[tf.Variable]:
        """Return what the update of a step changes beside the step itself."""
        return self._of(*_LEARNT, "policy/")

    def learnt(self) -> list[tf.Variable]:
        """Return what of it a batch does not change that trains the policy alone."""
        return self._of(*_LEARNT)

    def _of(self, *parts: str) -> list[tf.Variable]:
        return [v for name, v in self.variables().items() if name.startswith(parts)]


def by_path(
    part: str, variables: Iterable[keras.Variable], strip: str = ""
) -> dict[str, tf.Variable]:
    """Return part/path -> variable.

    Keras' own object tree would leave out what it does not track, silently. This
    mapping holds what it is given, so a restore can check that all of it came back.
    """
    variables = list(variables)
    names = [f"{part}/{v.path.removeprefix(strip)}" for v in variables]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two variables of one path: {', '.join(sorted(twice))}")
    return {n: v.value for n, v in zip(names, variables, strict=True)}


def create(experiment: Experiment, info: DatasetInfo) -> TrainState:
    """Build a fresh state; to be called under the strategy's scope."""
    strategy = tf.distribute.get_strategy()
    reduce_mean = replica.make_reduce_mean(strategy, experiment.batch_norm)
    with slices.set_together(strategy) as assign:
        optimizer = experiment.optimizer(experiment.make_learning_rate(info))
        optimizers.check(optimizer, experiment.weight_decay)
        step = optimizer.iterations.value
        micro_batch = replica.MicroBatch(experiment.accumulation_steps)
        make_seeds = functools.partial(
            replica.ReplicaSeedGenerator, step=step, micro_batch=micro_batch
        )
        training: dict[str, Any] = {"make_seed_generator": make_seeds}
        if reduce_mean is not None:
            training["reduce_mean"] = reduce_mean
        model, ema_model = (build_model(experiment, info, training) for _ in range(2))
        variables = model.trainable_variables
        optimizers.prepare(optimizer, variables, decayed_variables(model))
        if experiment.learning_rate_factors:
            optimizers.scale_learning_rates(optimizer, experiment.factors_of(model))
        scales = experiment.precision == "mixed_float16"
        rest = {
            "skipped_batches": _counter(),
            "roll_backs": _counter(),
            "loss_scale": LossScale() if scales else None,
            "policy": _make_policy(experiment, info, make_seeds),
        }
        ema.copy(model, ema_model, assign)
    return TrainState(
        model=model,
        ema_model=ema_model,
        optimizer=optimizer,
        statistics=replica.MovingStatistics(model),
        micro_batch=micro_batch,
        loops_can_reduce=reduce_mean is None or replica.sums_in_groups(strategy),
        class_weights=class_weights.of_classes(
            experiment.class_weights,
            info,
            split=experiment.train_split,
            data_dir=experiment.data_dir,
            classes=model.output_shape[-1],
        ),
        **rest,
    )


def _make_policy(
    experiment: Experiment,
    info: DatasetInfo,
    make_seeds: Callable[[int], replica.ReplicaSeedGenerator],
) -> Policy | None:
    if experiment.policy is None:
        return None
    policy = experiment.policy(
        seed=derive_seed(experiment.seed, "policy"),
        train_steps=experiment.train_steps(info),
        make_seed_generator=make_seeds,
    )
    policy.check(experiment, info)
    return policy


def decayed_variables(
    model: keras.Model, frozen: Iterable[str] = ()
) -> list[keras.Variable]:
    """Return the trainables outside batch norm, and frozen parts: kernels, biases."""
    learning = learning_variables(model, frozen)
    return [v for v in learning if v.name not in ("gamma", "beta")]


def _counter() -> tf.Variable:
    return tf.Variable(
        tf.constant(0, tf.int64),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def build_model(
    experiment: Experiment,
    info: DatasetInfo,
    training: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Build the model, with what it needs for training on several replicas."""
    model = experiment.make_model(
        len(info.label_names),
        dtype=experiment.precision,
        seed=experiment.seed,
        **(training or {}),
    )
    experiment.check_model(model, info)
    return model
