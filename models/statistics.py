"""Batch norm's statistics of weights that were not trained with any."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from models.batch_norm import BatchNormalization
from models.errors import require
from models.layers import Dropout, StochasticDepth

_Measure = Callable[[Any], dict[str, Any]]


def recompute_statistics(
    model: keras.Model,
    batches: Iterable[Any],
    *,
    compiled: Callable[[_Measure], _Measure] = lambda measure: measure,
) -> int:
    """Set the moving statistics to the means over batches, each weighing the same.

    A layer's statistics are of what the layers before it make of the batch by the
    batch's own, as in training; but nothing is dropped at random.

    Args:
      model: what `build_model` returned, or one of the same layers; its weights stay
        as they are. Frozen layers, and those that are called as in inference, keep
        their statistics.
      batches: of images, in the form that the model takes.
      compiled: makes another function of one of images, as tf.function, which frees
        what a layer has computed once nobody needs it any more.

    Returns:
      How many layers have new statistics.

    Raises:
      ModelError: there is no batch.
    """
    sums: dict[str, np.ndarray] = {}
    count = 0
    layers = list(model._flatten_layers())  # no public way into the blocks
    norms = [
        layer
        for layer in layers
        if isinstance(layer, BatchNormalization) and layer.trainable
    ]
    with _noting(norms) as noted, _drawing_nothing(layers):

        @compiled
        def measure(images: Any) -> dict[str, Any]:
            noted.clear()
            model(images, training=True)
            return dict(noted)

        for images in batches:
            for path, value in measure(images).items():
                value = keras.ops.convert_to_numpy(value).astype(np.float64)
                sums[path] = sums.get(path, 0) + value
            count += 1
    require(count > 0, "there is no batch to count the statistics of")
    moved = [layer for layer in norms if layer.moving_mean.path in sums]
    for layer in moved:
        for statistic in (layer.moving_mean, layer.moving_variance):
            statistic.assign((sums[statistic.path] / count).astype(np.float32))
    return len(moved)


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


@contextlib.contextmanager
def _drawing_nothing(layers: list[keras.Layer]) -> Iterator[None]:
    """Let random layers keep all that they are given."""
    kinds = Dropout, StochasticDepth
    drawing = [layer for layer in layers if isinstance(layer, kinds)]
    before = [layer.keep_prob for layer in drawing]
    try:
        for layer in drawing:
            layer.keep_prob = 1.0
        yield
    finally:
        for layer, keep_prob in zip(drawing, before, strict=True):
            layer.keep_prob = keep_prob
