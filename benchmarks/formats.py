"""What each form of an export loses, weighs and takes, as one line of JSON.

    python -m benchmarks.formats --model_dir=runs/mnist --photos=data/stamps

Of two networks: the digits of `make train`, whose evaluation split is scored; and
efficientnet-lite0 with its trained weights (make with-pretrained). There is no ImageNet
here: it is calibrated on the training split of --photos, and of its validation split it
is counted how many images get the SavedModel's class, whatever they show.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import sys
import tempfile
import types
from typing import Any

from benchmarks.support import machine, results
from common import cli
from train.exports.formats import forms

LITE0 = "efficientnet-lite0"
_PACKAGES = ("tensorflow", "ai-edge-litert", "onnxruntime", "tf2onnx")


def _photos(folder: str, crop: Any, split: str, resolution: int, most: int) -> Any:
    """Yield images of a prepared folder, whose classes are not the network's.

    Args:
      folder: that input_pipeline.prepare has written.
      crop: what the evaluation makes of a photo, a preprocess.EvalCrop.
      split: of the folder.
      resolution: S in pixels.
      most: how many images.
    """
    import numpy as np

    from input_pipeline import dataset
    from train.exports.formats import images

    settings = dataclasses.asdict(crop)
    experiment: Any = types.SimpleNamespace(
        build_model=lambda: None,  # of no network: the crop is all that is known
        eval_data=functools.partial(dataset.eval_dataset, **settings),
        data_dir=folder,
        eval_batch_size=50,
    )
    for batch in images.of_split(experiment, split, resolution, most):
        unknown = np.full_like(batch.labels, images.UNKNOWN)
        yield batch._replace(labels=unknown)


def digits(model_dir: str, wanted: forms.Wanted) -> dict[str, Any]:
    """Return a row a form of a run, exported to nowhere."""
    from train import config
    from train.exports import saved_model

    with tempfile.TemporaryDirectory() as folder:
        experiment = config.parse([], [], model_dir=model_dir)
        report = saved_model.export(
            experiment, model_dir, f"{folder}/export", wanted=wanted
        )
    return {
        "network": "the digits of `make train`",
        "forms": report["forms"],
    }


def lite0(photos: str, wanted: forms.Wanted) -> dict[str, Any]:
    """Return a row a form of the trained efficientnet-lite0."""
    import tensorflow as tf

    import models
    from train import datasets
    from train.exports import comparison, saved_model
    from train.exports.formats import writing
    from train.weights import pretrained

    model = models.build_model(models.get_variant(LITE0))
    pretrained.load(model, path=LITE0)
    size = model.input_shape[1]
    crop = datasets.authors_crop(LITE0, size)
    of = functools.partial(_photos, photos, crop)
    data = writing.Data(
        of("train", size, wanted.calibration_images),
        "the photos",
        "",
        of("validation", size, wanted.score_images),
    )
    with tempfile.TemporaryDirectory() as folder:
        servable = saved_model.Servable(model, (), crop)
        signatures = servable.signature_functions
        tf.saved_model.save(servable, folder, signatures=signatures)
        rows = writing.write(folder, model, wanted, data, {}, comparison.TOLERANCE)
    return {
        "network": f"`{LITE0}`, trained on ImageNet",
        "forms": rows,
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.formats", __doc__)
    parser.add_argument(
        "--model_dir",
        type=cli.weights_path,
        required=True,
        help="the run of `make train`",
    )
    parser.add_argument(
        "--photos",
        type=cli.path,
        required=True,
        help="a folder of photos that input_pipeline.prepare has written",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line of JSON."""
    hardware = machine.describe()  # before this benchmark is part of the load
    # What is lost is what it is to tell: nothing is refused.
    wanted = forms.Wanted(tuple(forms.FORMS), max_loss=100)
    forms.require_packages(wanted)
    report = {
        "benchmark": "formats",
        "networks": [
            digits(arguments.model_dir.rstrip("/"), wanted),
            lite0(arguments.photos, wanted),
        ],
        "machine": hardware,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "does_not_show": "phones, whose processors have other times; GPUs; accuracy on "
        "ImageNet, which is not here",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
