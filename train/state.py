"""Everything that training changes, and nothing else."""

import dataclasses
import functools
from collections.abc import Iterable

import keras
import tensorflow as tf

from input_pipeline.records import DatasetInfo
from train import checkpoint, ema, pretrained, replica
from train.errors import UserError
from train.experiment import Experiment
from train.optimizer import scale_learning_rates


@dataclasses.dataclass(frozen=True)
class TrainState:
    """Model, its average, and optimizer; the step is the optimizer's counter.

    There are no random states: seeds follow from the step (see `train.replica`).
    """

    model: keras.Model
    ema_model: keras.Model
    optimizer: keras.Optimizer

    @property
    def models(self) -> dict[str, keras.Model]:
        """The models to score, by the prefix of their scores."""
        return {"": self.model, "ema_": self.ema_model}

    @property
    def step(self) -> tf.Variable:
        """Updates done so far, an integer scalar."""
        return self.optimizer.iterations.value

    def start_from_pretrained(self, experiment: Experiment) -> None:
        """Sets the weights, and their average, that a fresh run starts from."""
        load_pretrained(experiment, self.model)
        ema.copy(self.model, self.ema_model)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns everything that a checkpoint holds, by name."""
        counter = self.optimizer.iterations
        slots = [v for v in self.optimizer.variables if v is not counter]
        # Keras numbers the optimizers of a process: rmsprop, rmsprop_1, ...
        strip = f"{self.optimizer.name}/"
        return {
            "step": self.step,
            **by_path("model", self.model.weights),
            **by_path("ema", self.ema_model.weights),
            **by_path("optimizer", slots, strip=strip),
        }


def by_path(
    part: str, variables: Iterable[keras.Variable], strip: str = ""
) -> dict[str, tf.Variable]:
    """Returns part/path -> variable.

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
    """Builds a fresh state; to be called under the strategy's scope."""
    optimizer = experiment.optimizer(experiment.make_learning_rate(info))
    step = optimizer.iterations.value
    model, ema_model = (_build(experiment, info, step) for _ in range(2))
    optimizer.build(model.trainable_variables)
    if experiment.learning_rate_factors:
        scale_learning_rates(optimizer, experiment.factors_of(model))
    ema.copy(model, ema_model)
    return TrainState(model, ema_model, optimizer)


def restore_models(
    experiment: Experiment,
    info: DatasetInfo,
    path: str,
    keys: Iterable[str] = ("", "ema_"),
) -> dict[str, keras.Model]:
    """Returns models of the checkpoint at `path`, keyed as `TrainState.models`."""
    models = {key: _build(experiment, info) for key in keys}
    parts = {"": "model", "ema_": "ema"}
    for key, model in models.items():
        variables = by_path(parts[key], model.weights)
        checkpoint.restore(variables, path, partly=True)
    return models


def load_pretrained(experiment: Experiment, model: keras.Model) -> None:
    """Sets the weights that `experiment.pretrained` names."""
    pretrained.load(
        model,
        path=str(experiment.pretrained),
        averaged=experiment.pretrained_averages,
        new_head=experiment.new_head,
    )


def load_models(
    experiment: Experiment,
    info: DatasetInfo,
    model_dir: str,
    keys: Iterable[str] = ("", "ema_"),
) -> tuple[dict[str, keras.Model], str, int]:
    """Returns models to score or to export, where they are from, and their step.

    They hold the newest checkpoint. Before there is one they hold the weights that the
    training would start from, if these are given; their step is 0.

    Raises:
      UserError: neither is there.
    """
    if checkpoint.newest(model_dir) is None and experiment.pretrained is not None:
        models = {key: _build(experiment, info) for key in keys}
        for model in models.values():
            load_pretrained(experiment, model)
        return models, f"pretrained {experiment.pretrained}", 0
    path = checkpoint.latest(model_dir)
    models = restore_models(experiment, info, path, keys)
    return models, path, checkpoint.step(path)


def _build(
    experiment: Experiment, info: DatasetInfo, step: tf.Variable | None = None
) -> keras.Model:
    """Builds the model; without a step it is not for training."""
    training = {}
    if step is not None:
        make = functools.partial(replica.ReplicaSeedGenerator, step=step)
        training["make_seed_generator"] = make
        reduce_mean = replica.make_reduce_mean(
            tf.distribute.get_strategy(),
            replicas_per_group=experiment.batch_norm_replicas,
        )
        if reduce_mean is not None:
            training["reduce_mean"] = reduce_mean
    try:
        model = experiment.build_model(
            dtype=experiment.precision, seed=experiment.seed, **training
        )
    except TypeError as error:
        if "variants.Variant" in str(error) or "variants.StageSpec" in str(error):
            raise UserError(str(error).splitlines()[0]) from error
        if "'variant'" not in str(error):
            raise
        raise UserError(
            "the config names no model; put one of gin_configs/models in front, as in "
            "--gin_file=gin_configs/models/efficientnet_x_b0.gin"
        ) from error
    experiment.check_model(model, info)
    return model
