"""Batch norm's statistics of weights that were not trained with any."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from models.batch_norm import BatchNormalization
from models.errors import require


def recompute_statistics(model: keras.Model, batches: Iterable[Any]) -> None:
    """Set the moving statistics to the means over batches, each weighing the same.

    A layer's statistics are of what the layers before it make of the batch by the
    batch's own, as in training. Nothing is drawn at random but for what the model
    draws in training: build it with survival_prob = 1 and dropout_rate = 0.

    Args:
      model: what `build_model` returned; its weights stay as they are. Frozen layers
        keep their statistics.
      batches: of images, in the form that the model takes.

    Raises:
      ModelError: there is no batch.
    """
    sums: dict[str, np.ndarray] = {}
    count = 0
    layers = [
        layer
        for layer in model._flatten_layers()  # no public way into the blocks
        if isinstance(layer, BatchNormalization) and layer.trainable
    ]
    with _noting(layers) as noted:
        for images in batches:
            model(images, training=True)
            count += 1
            for path, value in noted.items():
                value = keras.ops.convert_to_numpy(value).astype(np.float64)
                sums[path] = sums.get(path, 0) + value
    require(count > 0, "there is no batch to count the statistics of")
    for layer in layers:
        for statistic in (layer.moving_mean, layer.moving_variance):
            statistic.assign((sums[statistic.path] / count).astype(np.float32))


@contextlib.contextmanager
def _noting(layers: list[BatchNormalization]) -> Iterator[dict[str, Any]]:
    """Let layers write each batch's statistics into a dict by path, and move none."""
    noted: dict[str, Any] = {}
    before = [(layer.momentum, layer.assign_statistic) for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # what it would move to is the batch's
            layer.assign_statistic = lambda statistic, value: noted.update(
                {statistic.path: value}
            )
        yield noted
    finally:
        for layer, (momentum, assign) in zip(layers, before, strict=True):
            layer.momentum, layer.assign_statistic = momentum, assign
