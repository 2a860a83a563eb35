"""The trainer's step in several forms of the same network, for the TPU's compiler."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import keras
from keras import ops

from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from models import blocks
from preflight.lowered_steps import LoweredSteps
from train import config
from train.experiment import Experiment

_SPLIT = SplitInfo((ShardInfo("none", 1_281_167, ()),))
IMAGENET = DatasetInfo("imagenet", 0, (), {"train": _SPLIT, "validation": _SPLIT})
_PATCHES = (
    "efficientnet_x.build_model.stem_block_size = 4",
    "efficientnet_x.build_model.stem_reshuffle = 'host'",
    "efficientnet_x.build_model.input_layout = 'HWCN'",
)


class KerasBatchNormalization(keras.layers.BatchNormalization):
    """Keras' own, for one replica, where the models put theirs."""

    def __init__(self, *, groups: int = 1, reduce_mean: Any = None, **kwargs: Any):
        assert groups == 1
        assert reduce_mean is None
        super().__init__(**kwargs)


class KerasJaxBatchNormalization(KerasBatchNormalization):
    """The same with the moments of Keras' JAX backend, which differentiates all."""

    def _moments(self, inputs, mask):
        assert mask is None
        mean = ops.mean(inputs, axis=self._reduction_axes)
        squares = ops.square(inputs - mean)
        return mean, ops.mean(squares, axis=self._reduction_axes)


KERAS_FORMS = {
    "keras_jax_batch_norm": KerasJaxBatchNormalization,
    "keras_batch_norm": KerasBatchNormalization,
}
_OUR_FORMS = {"as_written": (), "patches_hwcn": _PATCHES}
FORMS = (*KERAS_FORMS, *_OUR_FORMS)


@contextlib.contextmanager
def batch_norm_of(form: str) -> Iterator[None]:
    """Put Keras' batch norm in the place of ours, with nothing joined to it."""
    if form in _OUR_FORMS:
        yield
        return
    with (
        mock.patch.object(blocks, "BatchNormalization", KERAS_FORMS[form]),
        mock.patch.object(blocks, "has_gradient", return_value=False),
    ):
        yield


def lower(model: str, batch: int, form: str) -> bytes:
    """Return the train step of a network in a form, for one replica.

    Args:
      model: its file in gin_configs/models, without its suffix.
      batch: images a step.
      form: one of FORMS.
    """
    experiment = recipe(model, batch, *_OUR_FORMS.get(form, ()))
    with batch_norm_of(form):
        return LoweredSteps(experiment, IMAGENET, 1).train_step().stablehlo


def recipe(model: str, batch: int, *bindings: str) -> Experiment:
    """Return the paper's recipe for a network on one device.

    Args:
      model: its file in gin_configs/models, without its suffix.
      batch: images a step, of the evaluation, too.
      *bindings: of gin.
    """
    own = (
        "experiment.Experiment.data_dir = 'none'",
        f"experiment.Experiment.global_batch_size = {batch}",
        f"experiment.Experiment.eval_batch_size = {batch}",
    )
    files = f"gin_configs/models/{model}.gin", "gin_configs/runs/imagenet_tpu.gin"
    return config.parse(files, [*own, *bindings])
