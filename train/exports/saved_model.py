"""A checkpoint -> a SavedModel that turns JPEG bytes into probabilities."""

import csv
import dataclasses
import io
import math
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common import errors, gfiles
from common.errors import UserError
from input_pipeline import preprocess, records
from input_pipeline.records import DatasetInfo
from models.input_form import input_form
from models.stem_forms import copy_weights
from train import evaluation
from train.experiment import Experiment
from train.exports import export_folder, export_target
from train.fault_tolerance.graph_errors import translate_errors

# Float noise between two programs of the same layers: eps * sqrt(terms), with the
# 201,132 terms that the sums of the deepest variant, efficientnet-h-b7, have one behind
# another. A wrong weight, crop or normalisation moves logits by far more.
TOLERANCE = 2**-23 * math.sqrt(201_132)  # 5e-5 of the largest logit, or of 10 if larger


class Servable(tf.Module):
    """What stands in the SavedModel: variables and two functions, nothing of Keras."""

    def __init__(self, model: keras.Model, label_names: tuple[str, ...]):
        super().__init__(name=model.name.replace("-", "_"))
        self._saved = [variable.value for variable in model.weights]
        size = model.input_shape[1]
        classes = int(model.output_shape[-1])
        names = [*label_names, *map(str, range(len(label_names), classes))]

        def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(pixels, training=False)
            ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
            return {
                "logits": logits,
                "probabilities": tf.nn.softmax(logits),
                "class_ids": ids,
                "class_names": tf.gather(tf.constant(names), ids),
            }

        def decode(image_bytes: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(
                lambda encoded: preprocess.eval_image(encoded, size),
                image_bytes,
                fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
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
    model_dir: str | os.PathLike[str],
    export_dir: str | os.PathLike[str],
    *,
    fold_batch_norm: bool = False,
    check_images: int = 1000,
) -> dict[str, Any]:
    """Write the averaged weights of a folder's newest checkpoint as a SavedModel.

    Signatures, for any batch size B:
      serving_default: image_bytes string[B], JPEG or PNG.
      images: images float32[B, S, S, 3], pixels 0..255, cropped and resized already.
      images_uint8: the same as uint8.
    Each returns logits and probabilities float32[B, C], class_ids int32[B] (the most
    probable) and class_names string[B].

    It is computed in float32 whatever the training's precision. What was written is
    loaded again and has to give the logits of the evaluation, computed in float32 too,
    before it gets its name.

    Args:
      experiment: of the run.
      model_dir: of the run; or its folder of the best checkpoint.
      export_dir: where the SavedModel goes; an older export there is replaced, if
        nobody has changed it.
      fold_batch_norm: whether the SavedModel's convolutions do batch norm's work, by
        other weights and a bias.
      check_images: how many images of the evaluation split to compare, at most.

    Returns:
      What was compared and how well it agreed.

    Raises:
      UserError: no checkpoint, something at export_dir that is not ours, or other
        logits.
    """
    model_dir, export_dir = os.fspath(model_dir), os.fspath(export_dir)
    inputs = {
        export_target.RUN: model_dir,
        "its data": experiment.data_dir,
        "its pretrained weights": experiment.pretrained,
    }
    with export_folder.writing(export_dir, inputs) as folder:
        info = records.load_info(experiment.data_dir)
        model, path = averaged_model(experiment, info, model_dir)
        served = with_batch_norm_folded(experiment, model) if fold_batch_norm else model
        servable = Servable(served, info.label_names)
        signatures = servable.signature_functions
        try:
            tf.saved_model.save(servable, folder, signatures=signatures)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot write {folder}: {errors.first_line(error)}; free some space, "
                "mend the permissions or name another --export_dir"
            ) from error
        with translate_errors():
            report, predictions = compare(experiment, info, model, folder, check_images)
        report |= {
            "checkpoint": path,
            "export_dir": export_dir,
            "label_offset": info.label_offset,
            "fields": dataclasses.asdict(info.fields),
        }
        extra = f"{folder}/assets.extra"
        gfiles.make_folder(extra)
        names = "".join(f"{name}\n" for name in info.label_names)
        gfiles.write_text(f"{extra}/labels.txt", names)
        gfiles.write_text(f"{extra}/predictions.csv", predictions)
        gfiles.write_json(f"{extra}/check.json", report)
    return report


def averaged_model(
    experiment: Experiment, info: DatasetInfo, model_dir: str
) -> tuple[keras.Model, str]:
    """Return the averaged model in float32, for images as they are, and its origin."""
    experiment = dataclasses.replace(experiment, precision="float32")
    models, path, _ = evaluation.load_models(experiment, info, model_dir, ["ema_"])
    form = input_form(models["ema_"])
    if (form.patch_size, form.layout) == (1, "NHWC"):
        return models["ema_"], path
    # The training's host rearranged the images; those who call a SavedModel will not.
    plain = _rebuild(experiment, stem_reshuffle="device", input_layout="NHWC")
    copy_weights(models["ema_"], plain)
    return plain, path


def with_batch_norm_folded(experiment: Experiment, model: keras.Model) -> keras.Model:
    """Return a model of the same logits without batch norm."""
    plain = {"stem_reshuffle": "device", "input_layout": "NHWC"}
    folded = _rebuild(experiment, fold_batch_norm=True, **plain)
    copy_weights(model, folded)
    return folded


def _rebuild(experiment: Experiment, **form: Any) -> keras.Model:
    return experiment.build_model(dtype="float32", seed=experiment.seed, **form)


def compare(
    experiment: Experiment,
    info: DatasetInfo,
    model: keras.Model,
    saved_model: str,
    check_images: int,
) -> tuple[dict[str, Any], str]:
    """Compare a SavedModel with the evaluation, on the evaluation's own images.

    Returns:
      A report for JSON, and the evaluation's predictions as CSV: the image's file name,
      its label from 0, the class id predicted.

    Raises:
      UserError: the two differ.
    """
    size = experiment.eval_batch_size
    batches = experiment.eval_data(
        data_dir=experiment.data_dir,
        split=experiment.eval_split,
        resolution=model.input_shape[1],
        batch_size=size,
    )
    loaded = tf.saved_model.load(saved_model)
    evaluate = tf.function(lambda images: model(images, training=False))
    encoded = encoded_images(experiment, info).batch(size)
    worst, largest, images, rows = 0.0, 0.0, 0, []
    for batch, (names, jpegs) in tf.data.Dataset.zip((batches, encoded)):
        count = jpegs.shape[0]  # less than the batch where that is padded
        labels = batch["label"].numpy()[:count]
        logits = evaluate(batch["image"]).numpy()[:count]
        real = np.flatnonzero(labels >= 0)  # a broken record has no logits to compare
        pixels = {"images": tf.gather(batch["image"], real)}
        jpegs = {"image_bytes": tf.gather(jpegs, real)}
        for outputs in (
            loaded.signatures["images_uint8"](**pixels),
            loaded.signatures["serving_default"](**jpegs),
        ):
            difference = np.abs(outputs["logits"].numpy() - logits[real])
            # Not Python's max, which would pass over what is not a number.
            worst = float(np.maximum(worst, difference.max(initial=0.0)))
        largest = float(np.maximum(largest, np.abs(logits[real]).max(initial=0.0)))
        guesses = logits.argmax(axis=-1)
        for i in real:
            rows.append([names[i].numpy().decode(), labels[i], guesses[i]])
        images += count
        if images >= check_images:
            break
    if not worst <= TOLERANCE * max(10.0, largest):
        raise export_folder.StaysAside(
            f"the SavedModel's logits differ from the evaluation's by {worst:.3g} (of "
            f"{largest:.3g}) on {images} images; see {saved_model}, which stays"
        )
    report = {
        "images_compared": images,
        "largest_logit_difference": worst,
        "largest_logit": largest,
    }
    table = io.StringIO()
    csv.writer(table).writerows([["filename", "label", "class_id"], *rows])
    return report, table.getvalue()


def encoded_images(experiment: Experiment, info: DatasetInfo) -> tf.data.Dataset:
    """Return (file name, JPEG bytes) of the evaluation split in its order."""
    folder = info.records_folder(experiment.data_dir)
    split = info.split(experiment.eval_split)
    shards = [records.shard_path(folder, shard) for shard in split.shards]
    keys = (info.fields.filename, info.fields.image)
    features = {key: tf.io.FixedLenFeature([], tf.string, "") for key in keys}

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = tf.io.parse_single_example(record, features)
        return tuple(example[key] for key in keys)

    return tf.data.TFRecordDataset(shards).map(parse)
