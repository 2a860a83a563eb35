"""Images through an exported SavedModel; needs TensorFlow alone."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from common.errors import UserError, first_line

BATCH_SIZE = 100
# The fields of records, where the SavedModel does not say what its data call them.
_IMAGENET = {
    "image": "image/encoded",
    "label": "image/class/label",
    "filename": "image/filename",
}


class Image(NamedTuple):
    """An encoded image; the label is the record's own, None where nobody knows."""

    name: str
    encoded: bytes
    label: int | None


class Result(NamedTuple):
    """What the model says of an image; the truth is a class id or None."""

    name: str
    class_id: int
    class_name: str
    probability: float
    truth: int | None


def read_files(paths: Iterable[str]) -> Iterator[Image]:
    """Read image files."""
    for path in paths:
        try:
            yield Image(path, tf.io.read_file(path).numpy(), None)
        except tf.errors.OpError as error:
            raise UserError(f"cannot read {path}: {first_line(error)}") from error


def read_tfrecords(pattern: str, export_dir: str) -> Iterator[Image]:
    """Read records with the fields of the data that the model learnt from."""
    shards = sorted(tf.io.gfile.glob(pattern))
    if not shards:
        raise UserError(f"no TFRecords at {pattern}")
    fields = _IMAGENET | _read_check(export_dir).get("fields", {})
    features = {
        fields["filename"]: tf.io.FixedLenFeature([], tf.string, ""),
        fields["image"]: tf.io.FixedLenFeature([], tf.string, ""),
        fields["label"]: tf.io.FixedLenFeature([], tf.int64, -1),
    }
    for record in tf.data.TFRecordDataset(shards):
        example = tf.io.parse_single_example(record, features)
        name, encoded, label = (example[key].numpy() for key in features)
        yield Image(name.decode(), encoded, int(label))


def classify(export_dir: str, images: Iterable[Image]) -> Iterator[Result]:
    """Run the SavedModel on batches of images."""
    model = load_signature(export_dir)
    offset = _read_check(export_dir).get("label_offset", 0)
    images = iter(images)
    while batch := list(itertools.islice(images, BATCH_SIZE)):
        try:
            outputs = run(model, batch)
        except tf.errors.OpError as error:
            if broken := first_broken(model, batch):
                raise UserError(
                    f"{broken} is no JPEG or PNG that can be decoded"
                ) from error
            raise
        for i, image in enumerate(batch):
            guess = int(outputs["class_ids"][i])
            yield Result(
                image.name,
                guess,
                outputs["class_names"][i].decode(),
                float(outputs["probabilities"][i, guess]),
                None if image.label is None else image.label - offset,
            )


def run(model, batch: list[Image]) -> dict:
    """Return the outputs of the signature as numpy arrays."""
    outputs = model(image_bytes=tf.constant([image.encoded for image in batch]))
    return {key: value.numpy() for key, value in outputs.items()}


def first_broken(model, batch: list[Image]) -> str | None:
    """Return the name of the first image that cannot be decoded."""
    for image in batch:
        try:
            run(model, [image])
        except tf.errors.OpError:
            return image.name
    return None


def _read_check(export_dir: str) -> dict:
    return json.loads(read_extra(export_dir, "check.json"))


def read_extra(export_dir: str, name: str) -> str:
    """Return a text that train.export has left in the SavedModel."""
    path = f"{export_dir}/assets.extra/{name}"
    if not tf.io.gfile.exists(path):
        raise UserError(f"no {path}; make the SavedModel with train.export")
    with tf.io.gfile.GFile(path) as file:
        return file.read()


def summarize(results: list[Result], export_dir: str) -> bool:
    """Print the accuracy, and the agreement with the trainer's predictions.

    Returns:
      Whether the SavedModel predicts what the trainer did.
    """
    right = sum(result.truth == result.class_id for result in results)
    share = f"{right:,} of {len(results):,} right ({right / len(results):.2%})"
    print(f"SavedModel in a new process: {share}")
    table = csv.DictReader(io.StringIO(read_extra(export_dir, "predictions.csv")))
    # A record need not have a name.
    expected = {row["filename"]: int(row["class_id"]) for row in table}
    expected.pop("", None)
    pairs = [(r.class_id, expected[r.name]) for r in results if r.name in expected]
    same = sum(one == other for one, other in pairs)
    if pairs:
        print(f"Predictions equal to the trainer's: {same:,} of {len(pairs):,}")
    return same == len(pairs)


def load_signature(export_dir: str):
    """Return the function of the SavedModel that takes JPEG bytes.

    Raises:
      UserError: there is no SavedModel.
    """
    if not tf.saved_model.contains_saved_model(export_dir):
        raise UserError(f"no SavedModel in {export_dir}; run train.export")
    return tf.saved_model.load(export_dir).signatures["serving_default"]
