"""The other forms of an export, made beside its SavedModel, scored and judged."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from common import console, files, gfiles
from input_pipeline.preprocess import EvalCrop
from train.experiment import Experiment
from train.exports.formats import convert, images, latency, runtimes, scores
from train.exports.formats.forms import (
    FORMS,
    SAVED_MODEL,
    Wanted,
    refuse_without_images,
)
from train.exports.formats.images import Batch
from train.exports.sources import Source


class Data(NamedTuple):
    """Which images there are.

    Attributes:
      experiment: of the run; its eval_data makes the batches.
      crop: what the evaluation makes of a photo.
      photos: that a person has named; scored in place of the evaluation split.
      has_splits: whether the run's data are there.
      why_none: why not.
      scores: whether anything is to be scored.
    """

    experiment: Experiment
    crop: EvalCrop
    photos: Sequence[str]
    has_splits: bool
    why_none: str
    scores: bool

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        crop: EvalCrop,
        source: Source,
        photos: Sequence[str] | None,
    ) -> "Data":
        """Return the images of an export that takes `photos` as --check_images."""
        has_splits = source.data is not None
        scores = bool(photos) or (photos is None and has_splits)
        why = source.why_no_data
        return cls(experiment, crop, photos or (), has_splits, why, scores)

    def calibration(self, resolution: int, most: int) -> Iterator[Batch]:
        """Return training images; photos where the data are elsewhere."""
        if self.has_splits:
            split = self.experiment.train_split
            return images.of_split(self.experiment, split, resolution, most)
        return images.of_files(self.photos, resolution, self.crop, most)

    def scored(self, resolution: int, most: int) -> Iterator[Batch] | None:
        """Return what to score on; None for nothing."""
        if not self.scores:
            return None
        if self.photos:
            return images.of_files(self.photos, resolution, self.crop, most)
        split = self.experiment.eval_split
        return images.of_split(self.experiment, split, resolution, most)


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
    resolution = model.input_shape[1]
    calibration = None
    if wanted.calibrates:
        if not data.has_splits and not data.photos:
            refuse_without_images(wanted, data.why_none)
        calibration = images.calibration(
            data.calibration(resolution, wanted.calibration_images)
        )
        whose = "the training split" if data.has_splits else "the photos"
        console.say(
            f"litert-int8: calibrated on {console.count(len(calibration), 'image')} "
            f"of {whose}"
        )
    for form in wanted.forms:
        content = convert.convert(form, model, metadata, calibration)
        gfiles.write_bytes(f"{folder}/{FORMS[form].file}", content)
    return _measured(folder, resolution, wanted, data, tolerance)


def _measured(
    folder: str, resolution: int, wanted: Wanted, data: Data, tolerance: float
) -> list[dict[str, Any]]:
    every = (SAVED_MODEL, *wanted.forms)
    found, largest = {}, 0.0
    batches = data.scored(resolution, wanted.score_images)
    if batches is not None:
        cores = len(os.sched_getaffinity(0))
        runs = {form: runtimes.load(form, folder, threads=cores) for form in every}
        found, largest = scores.score(runs, batches)
    report = scores.rows(
        found, sizes(folder, every), latency.measure(folder, every, resolution)
    )
    for line in scores.table(report):
        console.say(line)
    if found:
        scores.judge(found, largest, tolerance, wanted)
    return report


def sizes(folder: str, forms: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each form."""
    return {
        form: sum(
            tf.io.gfile.stat(f"{folder}/{path}").length
            for path in paths_of(folder, form)
        )
        for form in forms
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
