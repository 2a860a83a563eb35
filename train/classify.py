"""Classifies JPEG and PNG files with an exported SavedModel; needs TensorFlow only.

python -m train.classify --export_dir=runs/mnist/export photo.jpg ...
python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/validation-*'
"""

import argparse
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

BATCH_SIZE = 100


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
    """Reads image files."""
    for path in paths:
        try:
            yield Image(path, tf.io.read_file(path).numpy(), None)
        except tf.errors.OpError as error:
            sys.exit(f"error: cannot read {path}: {error.message}")


def read_tfrecords(pattern: str) -> Iterator[Image]:
    """Reads ImageNet-like records."""
    shards = sorted(tf.io.gfile.glob(pattern))
    if not shards:
        sys.exit(f"error: no TFRecords at {pattern}")
    features = {
        "image/filename": tf.io.FixedLenFeature([], tf.string, ""),
        "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64, -1),
    }
    for record in tf.data.TFRecordDataset(shards):
        example = tf.io.parse_single_example(record, features)
        name, encoded, label = (example[key].numpy() for key in features)
        yield Image(name.decode(), encoded, int(label))


def classify(export_dir: str, images: Iterable[Image]) -> Iterator[Result]:
    """Runs the SavedModel on batches of images."""
    model = tf.saved_model.load(export_dir).signatures["serving_default"]
    offset = json.loads(read_extra(export_dir, "check.json")).get("label_offset", 0)
    images = iter(images)
    while batch := list(itertools.islice(images, BATCH_SIZE)):
        try:
            outputs = run(model, batch)
        except tf.errors.OpError:
            name_the_broken_one(model, batch)
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
    """Returns the outputs of the signature as numpy arrays."""
    outputs = model(image_bytes=tf.constant([image.encoded for image in batch]))
    return {key: value.numpy() for key, value in outputs.items()}


def name_the_broken_one(model, batch: list[Image]) -> None:
    """Ends the program with the name of the first image that cannot be decoded."""
    for image in batch:
        try:
            run(model, [image])
        except tf.errors.OpError:
            sys.exit(f"error: {image.name} is no JPEG or PNG that can be decoded")


def read_extra(export_dir: str, name: str) -> str:
    """Returns a text that train.export has left in the SavedModel."""
    path = f"{export_dir}/assets.extra/{name}"
    if not tf.io.gfile.exists(path):
        sys.exit(f"error: no {path}; make the SavedModel with train.export")
    with tf.io.gfile.GFile(path) as file:
        return file.read()


def summarize(results: list[Result], export_dir: str) -> None:
    """Prints the accuracy, and the agreement with the trainer's predictions."""
    right = sum(result.truth == result.class_id for result in results)
    share = f"{right:,} of {len(results):,} right ({right / len(results):.2%})"
    print(f"SavedModel in a new process: {share}")
    table = csv.DictReader(io.StringIO(read_extra(export_dir, "predictions.csv")))
    expected = {row["filename"]: int(row["class_id"]) for row in table}
    pairs = [(r.class_id, expected[r.name]) for r in results if r.name in expected]
    same = sum(one == other for one, other in pairs)
    if pairs:
        print(f"Predictions equal to the trainer's: {same:,} of {len(pairs):,}")
    if same < len(pairs):
        sys.exit("error: the SavedModel predicts other classes than the trainer did")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export_dir", required=True, help="what train.export wrote")
    parser.add_argument("--tfrecords", help="pattern of TFRecords to classify")
    parser.add_argument("--show", type=int, default=10, help="results to print")
    parser.add_argument("files", nargs="*", help="JPEG or PNG files")
    arguments = parser.parse_args()
    if bool(arguments.tfrecords) == bool(arguments.files):
        parser.error("name image files or --tfrecords, one of the two")
    if not tf.saved_model.contains_saved_model(arguments.export_dir):
        sys.exit(f"error: no SavedModel in {arguments.export_dir}; run train.export")
    if arguments.tfrecords:
        images = read_tfrecords(arguments.tfrecords)
    else:
        images = read_files(arguments.files)
    results = list(classify(arguments.export_dir, images))
    for result in results[: arguments.show] if arguments.tfrecords else results:
        print(f"{result.name}: {result.class_name} ({result.probability:.1%})")
    if arguments.tfrecords:
        summarize(results, arguments.export_dir)


if __name__ == "__main__":
    main()
