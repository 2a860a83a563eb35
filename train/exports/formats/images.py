"""The images that int8 is calibrated on, and those that all forms are scored on."""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from common.errors import UserError
from input_pipeline.preprocess import EvalCrop
from models.input_form import InputForm
from train import datasets
from train.experiment import Experiment
from train.exports import comparison, image_files
from train.exports.formats.runtimes import to_uint8

UNKNOWN = -1  # of a label, as of the evaluation's padding
_BATCH_SIZE = 50  # of photos


class Batch(NamedTuple):
    """Some images.

    Attributes:
      pixels: float32[B, S, S, 3], as the evaluation has them.
      labels: int32[B], `UNKNOWN` where nobody knows.
    """

    pixels: np.ndarray
    labels: np.ndarray


def of_split(
    experiment: Experiment, split: str, resolution: int, most: int
) -> Iterator[Batch]:
    """Yield the first images of a split, in its order, as the evaluation sees them.

    Raises:
      UserError: there is no such split, or a record that the evaluation stops at.
    """
    batches = datasets.evaluation_images(
        experiment,
        InputForm(resolution, 1, "NHWC"),
        split,
        batch_size=min(experiment.eval_batch_size, most),
    )
    for batch in batches:
        labels = batch["label"].numpy()
        real = np.flatnonzero(labels >= 0)[:most]  # neither padding nor bad records
        most -= real.size
        if real.size:
            pixels = batch["image"].numpy()[real].astype(np.float32)
            yield Batch(pixels, labels[real])
        if not most:
            return


def of_files(
    paths: Iterable[str], resolution: int, crop: EvalCrop, most: int
) -> Iterator[Batch]:
    """Yield photos that a person names; nobody knows their classes."""
    usable = comparison.decoded(image_files.read_files(paths), resolution, crop)
    pixels = (np.asarray(image, np.float32) for _, image in usable)
    pixels = itertools.islice(pixels, most)
    while True:
        # What is left out was said when the SavedModel was compared.
        with contextlib.redirect_stderr(io.StringIO()):
            batch = list(itertools.islice(pixels, _BATCH_SIZE))
        if not batch:
            return
        yield Batch(np.stack(batch), np.full([len(batch)], UNKNOWN, np.int32))


def calibration(batches: Iterable[Batch]) -> np.ndarray:
    """Return images as a phone hands them in, uint8[N, S, S, 3].

    Without their fractions, and without what a cubic resize overshoots: what int8 is
    to be fed with, and what it learns its ranges from, are the same.

    Raises:
      UserError: there are none.
    """
    found = [to_uint8(batch.pixels) for batch in batches]
    if not found:
        raise UserError("there are no images that litert-int8 could be calibrated on")
    return np.concatenate(found)
