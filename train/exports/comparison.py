"""A SavedModel beside the evaluation that it has to agree with, image by image."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.console import escaped, say
from common.errors import UserError
from input_pipeline import in_order, records, stream
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.preprocess import EvalCrop, eval_image, nearest_uint8
from input_pipeline.records import Fields
from models.input_form import input_form
from train import datasets
from train.experiment import Experiment
from train.exports import export_folder, image_files, predictions
from train.exports.image_files import (
    Image,
    Parse,
    Unusable,
    content,
    file_name,
    parser,
)
from train.exports.predictions import Prediction

# Float noise between two programs of the same layers: eps * sqrt(terms), with the
# 201,132 terms that the sums of the deepest variant, efficientnet-h-b7, have one behind
# another. A wrong weight, crop or normalisation moves logits by far more.
TOLERANCE = 2**-23 * math.sqrt(201_132)  # 5e-5 of the largest logit, or of 10 if larger
_BATCH_SIZE = 100
REPORTED = (
    "images_compared",
    "largest_logit_difference",
    "largest_logit",
    # What a caller of images_uint8 loses, where the evaluation takes fractions.
    "logit_difference_by_rounding",
    "classes_changed_by_rounding",
)


class Comparison:
    """Takes images one batch after the other.

    Each signature is compared on the numbers that it takes exactly: those of bytes and
    of float32 on the evaluation's pixels, that of uint8 on these pixels rounded.

    Attributes:
      predictions: what the evaluation says of the images so far.
    """

    def __init__(self, model: keras.Model, saved_model: str):
        """Load what was written.

        Args:
          model: the evaluation's.
          saved_model: folder of a SavedModel.
        """
        self._folder = saved_model
        self._loaded = tf.saved_model.load(saved_model)
        self._evaluate = tf.function(lambda images: model(images, training=False))
        self._worst = self._largest = self._by_rounding = 0.0
        self._changed = 0
        self.predictions: list[Prediction] = []

    def add(
        self,
        pixels: tf.Tensor,
        rows: Sequence[int] | np.ndarray,
        images: Sequence[tuple[str, bytes, int | None]],
    ) -> None:
        """Compare a batch.

        Args:
          pixels: [B, S, S, 3], as the evaluation has them, float32 or uint8.
          rows: those of the batch that are images.
          images: name, encoded bytes and class of each of these.
        """
        logits = self._evaluate(pixels).numpy()[rows]
        rounded, of_rounded = pixels, logits
        if pixels.dtype != tf.uint8:
            rounded = nearest_uint8(pixels)
            of_rounded = self._evaluate(rounded).numpy()[rows]
        for name, taken, expected in (
            ("serving_default", [one for _, one, _ in images], logits),
            ("images", tf.cast(tf.gather(pixels, rows), tf.float32), logits),
            ("images_uint8", tf.gather(rounded, rows), of_rounded),
        ):
            found = self._loaded.signatures[name](tf.constant(taken))["logits"]
            self._worst = _largest(self._worst, found.numpy() - expected)
        self._largest = _largest(self._largest, logits)
        self._by_rounding = _largest(self._by_rounding, of_rounded - logits)
        changed = of_rounded.argmax(axis=-1) != logits.argmax(axis=-1)
        self._changed += int(changed.sum())
        guesses = logits.argmax(axis=-1)
        for (name, one, label), guess in zip(images, guesses, strict=True):
            sha256 = predictions.digest(one)
            self.predictions.append(Prediction(name, label, int(guess), sha256))

    def report(self) -> dict[str, Any]:
        """Return how well the two agree, for JSON.

        Raises:
          StaysAside: they do not.
        """
        worst, largest, number = self._worst, self._largest, len(self.predictions)
        if not worst <= TOLERANCE * max(10.0, largest):
            raise export_folder.StaysAside(
                f"the SavedModel's logits differ from the evaluation's by {worst:.3g} "
                f"(of {largest:.3g}) on {number} images; see {self._folder}, which "
                "stays"
            )
        loss = self._by_rounding, self._changed
        return dict(zip(REPORTED, (number, worst, largest, *loss), strict=True))


def _largest(known: float, array: np.ndarray) -> float:
    """Return the largest absolute number; what is not a number is larger."""
    # Not Python's max, which would pass over it.
    return float(np.maximum(known, np.abs(array).max(initial=0.0)))


def nothing(why: str) -> dict[str, Any]:
    """Return the report of a comparison that was left out."""
    return dict.fromkeys(REPORTED) | {"images_compared": 0, "why_not_compared": why}


def compare_split(
    experiment: Experiment,
    info: DatasetInfo,
    model: keras.Model,
    saved_model: str,
    check_images: int,
) -> tuple[dict[str, Any], list[Prediction]]:
    """Compare a SavedModel with the evaluation, on the evaluation's own images.

    Returns:
      A report for JSON, and what the evaluation predicts.

    Raises:
      UserError: the two differ, or there is nothing to compare.
    """
    size = experiment.eval_batch_size
    batches = datasets.evaluation_images(experiment, input_form(model), batch_size=size)
    comparison = Comparison(model, saved_model)
    parse = parser(info.fields)
    together = tf.data.Dataset.zip((batches, _serialized(experiment, info).batch(size)))
    for batch, contents in together:
        count = contents.shape[0]  # less than the batch where that is padded
        labels = batch["label"].numpy()[:count]
        # A broken record, which the evaluation skips, has no logits to compare.
        real = np.flatnonzero(labels >= 0)
        if not real.size:
            continue
        parsed = [_parse(parse, contents[i], info.fields) for i in real]
        images = [(*one, int(labels[i])) for i, one in zip(real, parsed, strict=True)]
        comparison.add(batch["image"], real, images)
        if len(comparison.predictions) >= check_images:
            break
    if not comparison.predictions:
        raise UserError(
            f"the evaluation of {experiment.data_dir} can use none of its records, so "
            "there is nothing to compare the SavedModel with: see python -m "
            "input_pipeline.validate"
        )
    return comparison.report(), comparison.predictions


def _serialized(experiment: Experiment, info: DatasetInfo) -> tf.data.Dataset:
    """Return the evaluation split's records as they are, in its order."""
    split = stream.Records(info, experiment.data_dir, experiment.eval_split)
    return in_order.finite(split).map(lambda record: record["serialized"])


def _parse(parse: Parse, record: tf.Tensor, fields: Fields) -> tuple[str, bytes]:
    """Return the file name and the JPEG of a record that the evaluation could use."""
    try:
        example = parse(record)
    # The evaluation needs no name. TensorFlow's message holds the record's bytes.
    except (tf.errors.OpError, UnicodeDecodeError):
        example = {"filename": tf.constant(""), **records.parse(record, fields)}
    return file_name(content(example["filename"])), content(example["encoded"])


def compare_files(
    model: keras.Model, saved_model: str, paths: Iterable[str], crop: EvalCrop
) -> tuple[dict[str, Any], list[Prediction]]:
    """Compare a SavedModel with the evaluation, on photos that a person names.

    Args:
      model: the evaluation's.
      saved_model: folder of a SavedModel.
      paths: image files and folders of such, as `image_files.read_files` takes them.
      crop: what the evaluation makes of them.

    Returns:
      A report for JSON, and what the evaluation predicts; nobody knows the classes.

    Raises:
      UserError: none of the images can be used.
      StaysAside: the two differ.
    """
    comparison = Comparison(model, saved_model)
    usable = decoded(image_files.read_files(paths), model.input_shape[1], crop)
    while batch := list(itertools.islice(usable, _BATCH_SIZE)):
        images = [(image.name, image.encoded, None) for image, _ in batch]
        pixels = tf.stack([pixels for _, pixels in batch])
        comparison.add(pixels, range(len(batch)), images)
    if not comparison.predictions:
        raise UserError(
            "none of the images that --check_images names can be used, so there is "
            "nothing to compare the SavedModel with"
        )
    return comparison.report(), comparison.predictions


def decoded(
    images: Iterable[Image | Unusable], resolution: int, crop: EvalCrop
) -> Iterator[tuple[Image, tf.Tensor]]:
    """Yield images with their pixels, and say which have none."""
    for image in images:
        if isinstance(image, Image):
            try:
                encoded = tf.constant(image.encoded)
                yield image, eval_image(encoded, resolution, crop)
            except tf.errors.OpError:
                why = image_files.why_not_decoded(image.encoded)
                image = Unusable(image.place, why)
        if isinstance(image, Unusable):
            say(escaped(f"{image.place} is left out: {image.reason}"))
