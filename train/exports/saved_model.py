"""A checkpoint -> a SavedModel that turns JPEG bytes into probabilities."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from common import gfiles, storage_errors
from common.console import warn
from input_pipeline.dataset_info import DatasetInfo
from input_pipeline.images.orientation import cropped_upright
from input_pipeline.preprocess import THE_REFERENCE, EvalCrop, eval_image
from models.input_form import input_form
from models.stem_forms import copy_weights
from train import datasets, evaluation
from train.experiment import Experiment
from train.exports import (
    batch_statistics,
    comparison,
    export_folder,
    export_target,
    predictions,
    sources,
    warmup,
)
from train.exports.formats import card, writing
from train.exports.formats.forms import Wanted
from train.exports.predictions import Prediction
from train.exports.sources import Source
from train.fault_tolerance.graph_errors import translate_errors
from train.weights import pretrained

# Pixels are 0..255. Some resizes overshoot, by less than the whole range; what is
# farther away is no pixel.
_MIDDLE_PIXEL, _FARTHEST_PIXEL = 127.5, 127.5 + 255


class Servable(tf.Module):
    """What stands in the SavedModel: variables and two functions, nothing of Keras."""

    def __init__(
        self,
        model: keras.Model,
        label_names: tuple[str, ...],
        crop: EvalCrop = THE_REFERENCE,
    ):
        """Make it.

        Args:
          model: for images as they are, NHWC.
          label_names: of its first outputs; the others go by their numbers.
          crop: what the evaluation makes of a photo.
        """
        super().__init__(name=model.name.replace("-", "_"))
        self._saved = [variable.value for variable in model.weights]
        size = model.input_shape[1]
        classes = int(model.output_shape[-1])
        numbered = map(str, range(len(label_names), classes))
        names = [*label_names, *numbered, ""]  # the last is of no class

        def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            # The signature's own shape is not held: other sides would be classified,
            # and one dimension less would end the server's process.
            pixels = tf.ensure_shape(pixels, [None, size, size, 3])
            logits = model(pixels, training=False)
            ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
            # Comparisons of what is not a number are false. An assertion would be
            # dropped by XLA, and would fail for the whole batch.
            sound = tf.reduce_all(tf.abs(logits) <= tf.float32.max, axis=-1)
            if pixels.dtype != tf.uint8:
                distance = tf.abs(pixels - _MIDDLE_PIXEL)
                sound &= tf.reduce_all(distance <= _FARTHEST_PIXEL, axis=[1, 2, 3])
            no_number = tf.constant(math.nan)
            return {
                "logits": logits,
                "probabilities": tf.where(
                    sound[:, None], tf.nn.softmax(logits), no_number
                ),
                "class_ids": tf.where(sound, ids, -1),
                "class_names": tf.gather(
                    tf.constant(names), tf.where(sound, ids, classes)
                ),
            }

        def decode(image_bytes: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(
                lambda encoded: eval_image(encoded, size, crop, cropped_upright),
                image_bytes,
                fn_output_signature=tf.TensorSpec([size, size, 3], crop.pixels),
            )

        self.images = tf.function(lambda images: classify(images))
        self.image_bytes = tf.function(
            lambda image_bytes: classify(decode(image_bytes))
        )
        pixels = [None, size, size, 3]
        self.signature_functions = {
            "serving_default": self.image_bytes.get_concrete_function(
                tf.TensorSpec([None], tf.string, name="image_bytes")
            ),
            "images": self.images.get_concrete_function(
                tf.TensorSpec(pixels, tf.float32, name="images")
            ),
            "images_uint8": self.images.get_concrete_function(
                tf.TensorSpec(pixels, tf.uint8, name="images")
            ),
        }


def export(
    experiment: Experiment,
    model_dir: str | os.PathLike[str] | None,
    export_dir: str | os.PathLike[str],
    *,
    fold_batch_norm: bool = False,
    check_images: int = 1000,
    images: Sequence[str] | None = None,
    wanted: Wanted | None = None,
    statistics_images: int | None = None,
    source: Source | None = None,
) -> dict[str, Any]:
    """Write the averaged weights of a folder's newest checkpoint as a SavedModel.

    Signatures, for any batch size B from 1:
      serving_default: image_bytes string[B], JPEG or PNG, seen upright as its EXIF
        orientation says, and then with the pixels that the run's evaluation would make,
        to the last bit. Records, which are taken as they are stored, go in by
        `exif.without_orientation`.
      images: images float32[B, S, S, 3], pixels 0..255, cropped and resized already.
      images_uint8: the same as uint8: pixels that are rounded.
    Each returns logits and probabilities float32[B, C], class_ids int32[B] (the most
    probable) and class_names string[B]. An image with a pixel that is not a number or
    outside -255..510, or with logits that are not finite, has the class -1 of no name,
    and probabilities that are not numbers; the others of its batch are not affected.

    It is computed in float32 whatever the training's precision. What was written is
    loaded again and has to give the logits of the evaluation, computed in float32 too,
    before it gets its name.

    The names of the classes are those that the run has learnt, and its data are needed
    for the comparison alone: where they are not, it is left out with a warning.

    Args:
      experiment: of the run.
      model_dir: of the run; or its folder of the best checkpoint. None for the weights
        of `experiment.pretrained`, without a run.
      export_dir: where the SavedModel goes; an older export there is replaced, if
        nobody has changed it.
      fold_batch_norm: whether the SavedModel's convolutions do batch norm's work, by
        other weights and a bias.
      check_images: how many images of the evaluation split to compare, at most.
      images: files and folders of photos to compare instead of the evaluation split;
        of an empty list nothing is compared.
      wanted: which forms stand beside the SavedModel; None is none.
      statistics_images: of how many images of the training split batch norm's
        statistics are counted anew; None leaves those that the run has averaged.
      source: of the classes and the images, where there is no run that knows them.

    Returns:
      What was compared and how well it agreed, what new statistics change, and of each
      form what it is worth.

    Raises:
      UserError: no checkpoint, something at export_dir that is not ours, classes that
        nobody knows, data of other classes than the run's, no training images to count
        statistics of, other logits, or a form that cannot be made or loses too much.
    """
    model_dir = None if model_dir is None else os.fspath(model_dir)
    export_dir = os.fspath(export_dir)
    wanted = wanted or Wanted()
    inputs = {
        export_target.RUN: model_dir,
        "its data": experiment.data_dir,
        "its pretrained weights": pretrained.file_of(experiment.pretrained),
    }
    with export_folder.writing(export_dir, inputs) as folder:
        looks = images is None or wanted.calibrates
        if source is None:
            source = sources.find(experiment, model_dir or "", compares=looks)
        classes = source.classes
        model, path = averaged_model(experiment, classes, model_dir)
        anew = {}
        if statistics_images is not None:
            is_scored = images is None and source.data is not None
            scored = wanted.score_images if is_scored else 0
            anew["statistics"] = _count_statistics(
                experiment, model, model_dir, path, statistics_images, scored
            )
        served = with_batch_norm_folded(experiment, model) if fold_batch_norm else model
        crop = datasets.eval_crop(experiment, model.input_shape[1])
        servable = Servable(served, classes.label_names, crop)
        signatures = servable.signature_functions
        try:
            tf.saved_model.save(servable, folder, signatures=signatures)
        except (tf.errors.OpError, OSError) as error:
            raise storage_errors.cannot_write(
                export_dir, error, folder="--export_dir"
            ) from error
        with translate_errors():
            report, predicted = _compare(
                experiment, source, model, folder, check_images, images
            )
        report |= anew | {
            "checkpoint": path,
            "export_dir": export_dir,
            "label_offset": classes.label_offset,
            "fields": dataclasses.asdict(classes.fields),
            "applies_orientation": True,
        }
        extra = f"{folder}/assets.extra"
        gfiles.make_folder(extra)
        about = card.describe(served, crop, classes, path)
        made = []
        if wanted.forms:
            size = served.input_shape[1]
            data = writing.find(experiment, source, crop, images, size, wanted)
            made = writing.write(
                folder, served, wanted, data, about, comparison.TOLERANCE
            )
            report["forms"] = made
        names = "".join(f"{name}\n" for name in classes.label_names)
        gfiles.write_text(f"{extra}/labels.txt", names)
        table = predictions.to_csv(predicted)
        gfiles.write_text(f"{extra}/{predictions.FILENAME}", table)
        warmup.write(folder, served.input_shape[1], served.name)
        gfiles.write_json(f"{extra}/check.json", report)
        card.write(folder, about, made, report)
    return report


def _count_statistics(
    experiment: Experiment,
    model: keras.Model,
    model_dir: str | None,
    checkpoint: str,
    images: int,
    score_images: int,
) -> dict[str, Any]:
    """Count batch norm's statistics anew, if the training images are there."""
    info = sources.find_training(
        experiment, model_dir or "", wanted_by=batch_statistics.FLAG
    )
    with translate_errors():
        return batch_statistics.recompute(
            experiment, model, checkpoint, info, images, score_images=score_images
        )


def _compare(
    experiment: Experiment,
    source: Source,
    model: keras.Model,
    folder: str,
    check_images: int,
    images: Sequence[str] | None,
) -> tuple[dict[str, Any], list[Prediction]]:
    """Compare on what there is: photos, the evaluation split or nothing."""
    if images:
        crop = datasets.eval_crop(experiment, model.input_shape[1])
        return comparison.compare_files(model, folder, images, crop)
    if images is not None:
        return comparison.nothing("--no_check"), []
    if source.data is not None:
        return comparison.compare_split(
            experiment, source.data, model, folder, check_images
        )
    warn(
        f"the SavedModel is not compared with the evaluation: {source.why_no_data}; "
        "--check_images PATH ... compares it on photos"
    )
    return comparison.nothing(source.why_no_data), []


def averaged_model(
    experiment: Experiment, info: DatasetInfo, model_dir: str | None
) -> tuple[keras.Model, str]:
    """Return the averaged model in float32, for images as they are, and its origin."""
    experiment = dataclasses.replace(experiment, precision="float32")
    models, path, _ = evaluation.load_models(experiment, info, model_dir, ["ema_"])
    sources.check_outputs(experiment, info, models["ema_"])
    form = input_form(models["ema_"])
    if (form.patch_size, form.layout) == (1, "NHWC"):
        return models["ema_"], path
    # The training's host rearranged the images; those who call a SavedModel will not.
    plain = _rebuild(
        experiment, models["ema_"], stem_reshuffle="device", input_layout="NHWC"
    )
    copy_weights(models["ema_"], plain)
    return plain, path


def with_batch_norm_folded(experiment: Experiment, model: keras.Model) -> keras.Model:
    """Return a model of the same logits without batch norm."""
    plain = {"stem_reshuffle": "device", "input_layout": "NHWC"}
    folded = _rebuild(experiment, model, fold_batch_norm=True, **plain)
    copy_weights(model, folded)
    return folded


def _rebuild(experiment: Experiment, model: keras.Model, **form: Any) -> keras.Model:
    """Return a model of as many outputs in another form."""
    return experiment.make_model(
        model.output_shape[-1], dtype="float32", seed=experiment.seed, **form
    )
