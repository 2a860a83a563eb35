"""Classifies JPEG and PNG files with an exported SavedModel; needs TensorFlow only.

python -m train.classify --export_dir=runs/mnist/export photo.jpg ...
python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/validation-*'
"""

import argparse
import csv
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator

import tensorflow as tf

BATCH_SIZE = 100


def read_files(paths: Iterable[str]) -> Iterator[tuple[str, bytes, str]]:
    """Yields (file name, encoded image, "") of image files."""
    for path in paths:
        try:
            yield pathlib.Path(path).name, tf.io.read_file(path).numpy(), ""
        except tf.errors.OpError as error:
            sys.exit(f"error: cannot read {path}: {error.message}")


def read_tfrecords(pattern: str) -> Iterator[tuple[str, bytes, str]]:
    """Yields (file name, encoded image, true class name) of ImageNet-like records."""
    keys = ("image/filename", "image/encoded", "image/class/text")
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    shards = sorted(tf.io.gfile.glob(pattern))
    if not shards:
        sys.exit(f"error: no TFRecords at {pattern}")
    for record in tf.data.TFRecordDataset(shards):
        example = tf.io.parse_single_example(record, features)
        name, image, text = (example[key].numpy() for key in keys)
        yield name.decode(), image, text.decode()


def batches(images: Iterable[tuple[str, bytes, str]]) -> Iterator[list]:
    """Yields lists of up to BATCH_SIZE images."""
    images = iter(images)
    while batch := list(itertools.islice(images, BATCH_SIZE)):
        yield batch


def classify(
    export_dir: str, images: Iterable[tuple[str, bytes, str]]
) -> Iterator[tuple[str, str, int, str, float]]:
    """Yields (file name, true class, class id, class name, probability)."""
    model = tf.saved_model.load(export_dir).signatures["serving_default"]
    for batch in batches(images):
        outputs = model(image_bytes=tf.constant([image for _, image, _ in batch]))
        ids, names, probabilities = (
            outputs[key].numpy()
            for key in ("class_ids", "class_names", "probabilities")
        )
        for i, (name, _, truth) in enumerate(batch):
            guess = ids[i]
            yield name, truth, int(guess), names[i].decode(), probabilities[i, guess]


def summarize(results: list, export_dir: str) -> None:
    """Prints the accuracy where the truth is known, and the agreement with training."""
    known = [(truth, guess) for _, truth, _, guess, _ in results if truth]
    right = sum(truth == guess for truth, guess in known)
    if known:
        print(
            f"SavedModel: {right:,} of {len(known):,} right ({right / len(known):.2%})"
        )
    expected = pathlib.Path(export_dir, "assets.extra", "predictions.csv")
    if not known or not expected.exists():
        return
    with expected.open() as file:
        ids = [int(row["class_id"]) for row in csv.DictReader(file)][: len(results)]
    same = sum(a == result[2] for a, result in zip(ids, results, strict=False))
    print(
        f"The same prediction as in the trainer's evaluation: {same:,} of {len(ids):,}"
    )
    if same < len(ids):
        sys.exit("error: the SavedModel does not predict what the evaluation predicted")


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
    shown = results[: arguments.show] if arguments.tfrecords else results
    for name, truth, _, guess, probability in shown:
        print(
            f"{name}: {guess} ({probability:.1%})" + f", in truth {truth}" * bool(truth)
        )
    summarize(results, arguments.export_dir)


if __name__ == "__main__":
    main()
