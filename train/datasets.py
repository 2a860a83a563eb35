"""An Experiment's batches for a strategy: training, evaluation, and their mixing."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from common.errors import UserError
from input_pipeline import dataset
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.fused import library
from input_pipeline.preprocess import EvalCrop
from models import photos
from models.input_form import InputForm
from train.experiment import Experiment
from train.stage_rows import BASE_STAGE, Stage

Mixing = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def train_dataset(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    form: InputForm,
    stage: Stage = BASE_STAGE,
    start_batch: int = 0,
) -> tf.distribute.DistributedDataset:
    """Return the endless training batches from global batch `start_batch` on.

    Args:
      experiment: of the run.
      strategy: whose replicas share a batch.
      form: of the images that the model takes in this stage.
      stage: of the run.
      start_batch: number of the global batch that comes first.

    Raises:
      UserError, input_pipeline.errors.DataError: a setting makes no sense, or the data
        cannot be opened.
    """
    size = experiment.global_batch_size

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return training_images(
            experiment,
            form,
            stage,
            batch_size=context.get_per_replica_batch_size(size),
            start=start_batch * size // context.num_input_pipelines,
            num_hosts=context.num_input_pipelines,
            host=context.input_pipeline_id,
        )

    return strategy.distribute_datasets_from_function(make)


def training_images(
    experiment: Experiment,
    form: InputForm,
    stage: Stage = BASE_STAGE,
    *,
    batch_size: int,
    start: int = 0,
    num_hosts: int = 1,
    host: int = 0,
    **others: Any,
) -> tf.data.Dataset:
    """Return the endless training batches of one input pipeline.

    Args:
      experiment: of the run.
      form: of the images.
      stage: of the run, which may change the augmentation.
      batch_size: of this pipeline.
      start: images that it has given before.
      num_hosts: how many pipelines share the data.
      host: which of them this one is.
      **others: settings of `train_data` in place of the config's.
    """
    resize = photos.of_authors(_variant(experiment), form.resolution).resize
    others = _unset(experiment.train_data, resize=resize) | others
    augment = make_augment(experiment, stage)
    if augment is not None:
        others["augment"] = augment
    return experiment.train_data(
        data_dir=experiment.data_dir,
        split=experiment.train_split,
        **form.arguments(),
        batch_size=batch_size,
        seed=experiment.seed,
        start=start,
        num_hosts=num_hosts,
        host=host,
        **others,
    )


def example_images(
    experiment: Experiment,
    form: InputForm,
    stage: Stage,
    *,
    batch: int,
    count: int,
    num_hosts: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of a global batch on the first host, before mixing.

    Args:
      experiment: of the run.
      form: of the images.
      stage: of the run.
      batch: number of the global batch.
      count: how many images.
      num_hosts: that share the data.

    Returns:
      (uint8[count, S, S, 3], int[count] labels; -1 marks a broken record).
    """
    plain = InputForm(form.resolution, patch_size=1, layout="NHWC")
    images = training_images(
        experiment,
        plain,
        stage,
        batch_size=count,
        start=batch * experiment.global_batch_size // num_hosts,
        num_hosts=num_hosts,
        **decoded_here(experiment),
    )
    element = next(images.as_numpy_iterator())
    return element["image"], element["label"]


def eval_dataset(
    experiment: Experiment,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy,
    form: InputForm,
) -> tf.distribute.DistributedDataset:
    """Return the evaluation split as batches of the form that the model takes."""

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        hosts = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // hosts
        return evaluation_images(
            experiment,
            form,
            batch_size=context.get_per_replica_batch_size(experiment.eval_batch_size),
            # One element a replica: all replicas of all hosts take as many.
            num_batches=experiment.eval_steps(info) * replicas,
            num_hosts=hosts,
            host=context.input_pipeline_id,
        )

    return strategy.distribute_datasets_from_function(make)


def uses_fused_ops(experiment: Experiment) -> bool:
    """Whether training images are made by fused ops."""
    function = experiment.train_data
    if getattr(function, "func", function) is not dataset.train_dataset:
        return False
    settings = (_setting(function, name) for name in ("fused_ops", "service"))
    return library.choose(*settings) is not None


def reads_in_file_order(experiment: Experiment) -> bool:
    """Whether the evaluation's images come as the records lie, not by another function.

    Only `dataset.eval_dataset` is known to.
    """
    function = experiment.eval_data
    return getattr(function, "func", function) is dataset.eval_dataset


def evaluation_images(
    experiment: Experiment, form: InputForm, split: str | None = None, **others: Any
) -> tf.data.Dataset:
    """Return a split as one input pipeline of the evaluation has it.

    Args:
      experiment: of the run.
      form: of the images.
      split: None is that of the evaluation.
      **others: what else `eval_data` is called with: batch_size, num_hosts ...
    """
    crop = authors_crop(_variant(experiment), form.resolution)
    unset = {"resize": crop.resize, "crop_fraction": crop.crop_fraction}
    return experiment.eval_data(
        data_dir=experiment.data_dir,
        split=experiment.eval_split if split is None else split,
        **form.arguments(),
        **_unset(experiment.eval_data, **unset),
        **others,
    )


def eval_crop(experiment: Experiment, resolution: int) -> EvalCrop:
    """Return what the run's evaluation makes of a photo, at a resolution in pixels.

    That is what `eval_data` sets, else what the network's authors do. Of a function
    of the user's own that has no such settings nobody can tell.
    """
    crop = authors_crop(_variant(experiment), resolution)
    names = [field.name for field in dataclasses.fields(EvalCrop)]
    found = {name: _setting(experiment.eval_data, name) for name in names}
    given = {name: value for name, value in found.items() if value is not None}
    return dataclasses.replace(crop, **given)


def authors_crop(variant: str, resolution: int) -> EvalCrop:
    """Return what the authors of a network make of a photo that they score.

    Args:
      variant: the network's name, see `models.photos.of_authors`.
      resolution: in pixels.
    """
    return EvalCrop(**photos.of_authors(variant, resolution)._asdict())


def _variant(experiment: Experiment) -> str:
    """Return the name of the run's network; none of a model of others' own."""
    variant = _setting(experiment.build_model, "variant")
    return variant if isinstance(variant, str) else getattr(variant, "name", "")


def data_setting(experiment: Experiment, name: str) -> Any:
    """Return what `train_data` is called with; None where it has no such setting."""
    return _setting(experiment.train_data, name)


def decoded_here(experiment: Experiment) -> dict[str, Any]:
    """Return the settings of `train_data` by which no service decodes its images.

    They are the same wherever they are decoded. A function of the user's own, or one
    without a service, needs none.
    """
    return {} if data_setting(experiment, "service") is None else {"service": None}


def _setting(function: Callable, name: str) -> Any:
    """Return what a function is called with; None where it has no such setting."""
    parameter = inspect.signature(function).parameters.get(name)
    if parameter is None or parameter.default is parameter.empty:
        return None
    return parameter.default


def _unset(function: Callable, **settings: Any) -> dict[str, Any]:
    """Return those of the settings that the function has and the config has not."""
    known = inspect.signature(function).parameters
    return {
        name: value
        for name, value in settings.items()
        if name in known and known[name].default is None
    }


def make_augment(experiment: Experiment, stage: Stage) -> Callable | None:
    """Return the augmentation of a stage; None is the one that train_data has.

    Raises:
      UserError: the recipe has none that the stage could change.
    """
    magnitude = stage.given("magnitude")
    if not magnitude:
        return None
    augment = data_setting(experiment, "augment")
    return _bind(augment, "the augment of Experiment.train_data", **magnitude)


def make_mixing(
    experiment: Experiment, stage: Stage, form: InputForm, classes: int
) -> Mixing | None:
    """Return the mixing of a stage, of images in this form; None is no mixing.

    Raises:
      UserError: the recipe has no mixing that the stage could change.
      input_pipeline.errors.DataError: mixing refuses a setting, or the form.
    """
    mixing, alphas = experiment.mixing, stage.given("mixup_alpha", "cutmix_alpha")
    if alphas:
        mixing = _bind(mixing, "Experiment.mixing", **alphas)
    if mixing is None:
        return None
    mixing = functools.partial(mixing, layout=form.layout, patch_size=form.patch_size)
    # A graph of it tells now, and not at the first step of a later stage, what it
    # does not like. Nothing is mixed.
    shape = list(form.image_shape)
    shape.insert(form.batch_axis, 2)
    tf.function(mixing, autograph=False).get_concrete_function(
        tf.TensorSpec(shape, tf.uint8),
        tf.TensorSpec([2, classes], tf.float32),
        tf.TensorSpec([2], tf.int64),
    )
    return mixing


def _bind(function: Callable | None, what: str, **settings: Any) -> Callable:
    """Return a function with some of its settings bound."""
    sets = f"Experiment.progressive sets {' and '.join(settings)}"
    if function is None:
        raise UserError(f"{sets}, but {what} is None")
    for name in settings.keys() - inspect.signature(function).parameters:
        raise UserError(f"{sets}, but {what} has no {name}")
    return functools.partial(function, **settings)
