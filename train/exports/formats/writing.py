"""The other forms of an export, made beside its SavedModel, scored and judged."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from common import console, files, gfiles
from input_pipeline.preprocess import EvalCrop
from train.experiment import Experiment
from train.exports.formats import convert, forms, images, latency, runtimes, scores
from train.exports.formats.forms import FORMS, SAVED_MODEL, Wanted
from train.exports.formats.images import Batch
from train.exports.sources import Source


class Data(NamedTuple):
    """Which images there are; nothing is read yet.

    Attributes:
      calibration: training images, or photos where these are elsewhere; None where
        there are neither.
      whose: of whom these are, in words.
      why_none: why there are none.
      scored: what all forms are scored on; None for nothing.
    """

    calibration: Iterable[Batch] | None
    whose: str
    why_none: str
    scored: Iterable[Batch] | None


def find(
    experiment: Experiment,
    source: Source,
    crop: EvalCrop,
    photos: Sequence[str] | None,
    resolution: int,
    wanted: Wanted,
) -> Data:
    """Return the images of an export.

    Args:
      experiment: of the run; its eval_data makes the batches.
      source: whether its data are there.
      crop: what the evaluation makes of a photo.
      photos: as --check_images names them, for the evaluation split; of an empty list
        nothing is scored.
      resolution: S in pixels.
      wanted: how many images.
    """

    def of_split(split: str, most: int) -> Iterable[Batch]:
        return images.of_split(experiment, split, resolution, most)

    def of_photos(most: int) -> Iterable[Batch] | None:
        return images.of_files(photos, resolution, crop, most) if photos else None

    if source.data is not None:
        known = of_split(experiment.train_split, wanted.calibration_images)
        whose = "the training split"
    else:
        known, whose = of_photos(wanted.calibration_images), "the photos"
    if photos is None and source.data is not None:
        scored = of_split(experiment.eval_split, wanted.score_images)
    else:
        scored = of_photos(wanted.score_images)
    return Data(known, whose, source.why_no_data, scored)


def write(
    folder: str,
    model: keras.Model,
    wanted: Wanted,
    data: Data,
    metadata: Mapping[str, Any],
    tolerance: float,
) -> list[dict[str, Any]]:
    """Convert a network, score each form and print how they do.

    Args:
      folder: where the SavedModel is, under a name for the time being.
      model: the SavedModel's.
      wanted: which forms.
      data: to calibrate and to score.
      metadata: what ONNX has inside.
      tolerance: float noise, as `scores.judge` takes it.

    Returns:
      A row a form, the SavedModel first, for JSON.

    Raises:
      UserError: a form cannot be made or run, or loses more than it may.
    """
    calibration = None
    if wanted.calibrates:
        if data.calibration is None:
            raise forms.without_images(wanted, data.why_none)
        calibration = images.calibration(data.calibration)
        console.say(
            f"{forms.INT8}: calibrated on {console.count(len(calibration), 'image')} "
            f"of {data.whose}"
        )
    for form in wanted.forms:
        content = convert.convert(form, model, metadata, calibration)
        gfiles.write_bytes(f"{folder}/{FORMS[form].file}", content)
    return _measured(folder, model.input_shape[1], wanted, data, tolerance)


def _measured(
    folder: str, resolution: int, wanted: Wanted, data: Data, tolerance: float
) -> list[dict[str, Any]]:
    every = (SAVED_MODEL, *wanted.forms)
    found, largest = {}, 0.0
    if data.scored is not None:
        cores = len(os.sched_getaffinity(0))
        runs = {form: runtimes.load(form, folder, threads=cores) for form in every}
        found, largest = scores.score(runs, data.scored)
    report = scores.rows(
        found, sizes(folder, every), latency.measure(folder, every, resolution)
    )
    for line in scores.table(report):
        console.say(line)
    if found:
        scores.judge(found, largest, tolerance, wanted)
    return report


def sizes(folder: str, names: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each form."""
    return {
        form: sum(
            tf.io.gfile.stat(f"{folder}/{path}").length
            for path in paths_of(folder, form)
        )
        for form in names
    }


def paths_of(folder: str, form: str) -> list[str]:
    """Return the files of a form, relative to the export."""
    if form != SAVED_MODEL:
        return [FORMS[form].file]
    return [
        path
        for path, what in gfiles.tree(folder).items()
        if what == files.FILE
        and (path.endswith(".pb") or path.startswith("variables/"))
    ]
