"""An Experiment's batches for a strategy: training, evaluation, and their mixing."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from common.errors import UserError
from input_pipeline.records import DatasetInfo
from models.input_form import InputForm, input_form
from train import config
from train.experiment import Experiment
from train.stage_rows import BASE_STAGE, Stage


def train_dataset(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    form: InputForm,
    stage: Stage = BASE_STAGE,
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


def eval_dataset(
    experiment: Experiment,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
) -> tf.distribute.DistributedDataset:
    """Returns the evaluation split as batches of the form that the model takes."""
    form = input_form(model)

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        hosts = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // hosts
        return experiment.eval_data(
            data_dir=experiment.data_dir,
            split=experiment.eval_split,
            **form.arguments(),
            batch_size=context.get_per_replica_batch_size(experiment.eval_batch_size),
            # One element a replica: all replicas of all hosts take as many.
            num_batches=experiment.eval_steps(info) * replicas,
            num_hosts=hosts,
            host=context.input_pipeline_id,
        )

    return strategy.distribute_datasets_from_function(make)
