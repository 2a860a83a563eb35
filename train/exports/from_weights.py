"""A SavedModel of weights that others have trained, without a run."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import models
from input_pipeline import dataset
from input_pipeline.dataset_info import DatasetInfo
from train import optimizer, schedule
from train.experiment import Experiment
from train.exports import saved_model
from train.exports.formats.forms import Wanted
from train.exports.sources import Source
from train.weights import classifiers

_WHY_NO_DATA = "weights alone have no data"


def export(
    path: str,
    export_dir: str | os.PathLike[str],
    *,
    variant: str | None = None,
    labels: str = "",
    fold_batch_norm: bool = False,
    images: Sequence[str] | None = None,
    wanted: Wanted | None = None,
) -> dict[str, Any]:
    """Write weights as a SavedModel, as `saved_model.export` writes a run's.

    Args:
      path: of the weights, or their name: see `classifiers.describe`.
      export_dir: as there.
      variant: the network of a file.
      labels: names of its classes.
      fold_batch_norm: as there, as what follows.
      images: photos to compare on; there is no evaluation split.
      wanted: which forms stand beside it.

    Returns:
      What was compared and how well it agreed, and of each form what it is worth.

    Raises:
      UserError: as there, or the weights cannot be read.
      ModelError: they are not of this variant.
    """
    network = classifiers.describe(path, variant=variant, labels=labels)
    classes = DatasetInfo(path, 0, network.names, {})
    return saved_model.export(
        _experiment(path, network),
        None,
        export_dir,
        fold_batch_norm=fold_batch_norm,
        images=images,
        wanted=wanted,
        source=Source(classes, None, _WHY_NO_DATA),
    )


def _experiment(path: str, network: classifiers.Network) -> Experiment:
    """Return what an export reads of a run; nothing is trained by it."""
    return Experiment(
        build_model=functools.partial(
            models.build_model,
            variant=network.variant,
            num_classes=len(network.names),
        ),
        optimizer=optimizer.rmsprop,
        learning_rate=schedule.cosine,
        train_data=dataset.train_dataset,
        eval_data=dataset.eval_dataset,
        data_dir="none",
        global_batch_size=1,
        eval_batch_size=1,
        epochs=1,
        pretrained=path,
    )
