"""Which kinds of images are read where, and what differs between training and serving.

    python -m benchmarks.image_kinds

Makes an image of each kind and hands it to everything that reads images: prepare, of
files and of records, validate, training, evaluation, a SavedModel and classify. The
last column is what the network learns of a file, after prepare, against what classify
shows it of the same file: grey levels apart, on average.
"""

import argparse
import functools
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli, console

if TYPE_CHECKING:
    from benchmarks.support.image_kinds import ImageKind

READ = "read"
Answers = Mapping[str, str]  # READ or the refusal, by the name of the kind
_SIDE = 32
_ASSERTED = re.compile(r"image (is|has) [^\]\n]*")
_MASKED = re.compile(r"bad record: .*?, record (\d+): (.*); masked")


def _parser() -> argparse.ArgumentParser:
    return cli.parser("benchmarks.image_kinds", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Print the table, and the words of those that refuse."""
    del arguments
    from benchmarks.support.image_kinds import kinds

    every = kinds()
    with tempfile.TemporaryDirectory() as folder:
        found = ask_everyone(every, Path(folder))
    apart = differences(every)
    header = ["kind", *found, "grey levels"]
    rows = [
        [
            one.name,
            *(READ if of[one.name] == READ else "refused" for of in found.values()),
            f"{apart[one.name]:.2f}" if one.name in apart else "",
        ]
        for one in every
    ]
    for line in console.table([header, *rows]):
        print(line)
    for place, of in found.items():
        for words in sorted({one for one in of.values() if one != READ}):
            names = "; ".join(name for name, said in of.items() if said == words)
            print(f"{place}: {words} ({names})")


def ask_everyone(every: Sequence["ImageKind"], folder: Path) -> dict[str, Answers]:
    """Return what each place says of each kind.

    Args:
      every: the kinds.
      folder: for records and files.
    """
    _write_records(every, folder)
    return {
        "prepare imagefolder": {one.name: _prepared(one.encoded) for one in every},
        "prepare tfrecords": {one.name: _surveyed(one) for one in every},
        "validate": _validated(every, folder),
        "training": _decoded(every, folder, training=True),
        "evaluation": _decoded(every, folder, training=False),
        "SavedModel": _served(every),
        "classify": {one.name: _classified(one, folder)[0] for one in every},
    }


def differences(every: Sequence["ImageKind"]) -> dict[str, float]:
    """Return the grey levels between training and serving, of what files may be."""
    import numpy as np

    from input_pipeline.preparation.jpeg import to_rgb_jpeg

    apart = {}
    with tempfile.TemporaryDirectory() as folder:
        for one in every:
            answer, served = _classified(one, Path(folder))
            if answer == READ:
                learnt = to_rgb_jpeg(
                    one.encoded, apply_orientation=True, on_white=True
                ).encoded
                pixels = [
                    _evaluated()(data).numpy().astype(int) for data in (learnt, served)
                ]
                apart[one.name] = float(np.abs(pixels[0] - pixels[1]).mean())
    return apart


def _write_records(every: Sequence["ImageKind"], folder: Path) -> None:
    """Write a record of each kind, each of a class of its own, as two splits."""
    from input_pipeline import dataset_info, records

    splits = {}
    for split in ("train", "validation"):
        contents = [_example(one, label) for label, one in enumerate(every, 1)]
        shard = records.write_shard(str(folder / f"{split}-0"), contents)
        splits[split] = dataset_info.SplitInfo((shard,))
    names = tuple(one.name for one in every)
    info = dataset_info.DatasetInfo("kinds", 1, names, splits)
    dataset_info.write_info(info, str(folder))


def _example(one: "ImageKind", label: int) -> bytes:
    from input_pipeline import records

    return records.make_example(
        one.encoded,
        label=label,
        height=0,
        width=0,
        filename=one.name,
        synset="",
        text="",
    )


def _prepared(encoded: bytes) -> str:
    from input_pipeline.preparation.jpeg import BadImageError, to_rgb_jpeg

    try:
        to_rgb_jpeg(encoded, apply_orientation=True, on_white=True)
    except BadImageError as error:
        return str(error)
    return READ


def _surveyed(one: "ImageKind") -> str:
    from input_pipeline.preparation import record_content
    from input_pipeline.records import IMAGENET

    found = record_content.record(_example(one, 1), IMAGENET, "record 0")
    return f"cannot be trained on: {found.image}" if found.image else READ


def _validated(every: Sequence["ImageKind"], folder: Path) -> Answers:
    from input_pipeline import records
    from input_pipeline.validation.findings import MAX_LOCATIONS
    from input_pipeline.validation.inspect_shard import ShardTask, inspect_shard

    words: dict[str, list[str]] = {one.name: [] for one in every}
    path = str(folder / "some")
    # No more in a file than validate names, in case that all have one fault.
    for begin in range(0, len(every), MAX_LOCATIONS):
        some = every[begin : begin + MAX_LOCATIONS]
        shard = records.write_shard(path, [_example(one, 1) for one in some])
        task = ShardTask(path, shard, range(1, 2), decode=True)
        findings = inspect_shard(task, lambda count: None).findings
        for kind in filter(findings.is_error, findings.found()):
            for location in findings.locations[kind]:
                words[location.image].append(f"{kind.title}: {location.detail}")
    return {name: "; ".join(found) or READ for name, found in words.items()}


def _decoded(
    every: Sequence["ImageKind"], data_dir: Path, *, training: bool
) -> Answers:
    """Return what a batch of all of them says, one of each."""
    from input_pipeline import jpeg_warnings
    from input_pipeline.dataset import eval_dataset, train_dataset

    options = {
        "data_dir": str(data_dir),
        "resolution": _SIDE,
        "batch_size": len(every),
        "on_bad_record": "skip",
    }
    data = train_dataset(**options, seed=0) if training else eval_dataset(**options)
    said, batch = jpeg_warnings.listen(lambda: next(iter(data)))
    words = {int(number): why for number, why in _MASKED.findall(said)}
    there = set(batch["label"].numpy().tolist())
    return {
        one.name: READ if number in there else words[number]
        for number, one in enumerate(every)
    }


def _served(every: Sequence["ImageKind"]) -> Answers:
    """Return what a SavedModel's own function says, of a network that is tiny."""
    import keras
    import tensorflow as tf

    from train.exports.saved_model import Servable

    layers = keras.layers
    network = keras.Sequential(
        [
            layers.Input([_SIDE, _SIDE, 3]),
            layers.Rescaling(1 / 255),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name="tiny",
    )
    servable, answers = Servable(network, ("a", "b")), {}
    for one in every:
        try:
            servable.image_bytes(tf.constant([one.encoded]))
            answers[one.name] = READ
        except tf.errors.OpError as error:
            found = _ASSERTED.search(str(error))
            answers[one.name] = found[0] if found else str(error).splitlines()[0]
    return answers


@functools.cache
def _evaluated() -> Callable:
    """Return what makes a SavedModel's image of a file, as a graph, for its speed."""
    import tensorflow as tf

    from input_pipeline.images.orientation import cropped_upright
    from input_pipeline.preprocess import eval_image

    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(
        lambda data: eval_image(data, _SIDE, decode=cropped_upright),
        input_signature=signature,
        autograph=False,
    )


def _classified(one: "ImageKind", folder: Path) -> tuple[str, bytes]:
    """Return classify's answer, and the bytes that the SavedModel is given."""
    import tensorflow as tf

    from train.exports import image_files

    path = folder / "file"
    path.write_bytes(one.encoded)
    (found,) = image_files.read_files([str(path)])
    if isinstance(found, image_files.Unusable):
        return found.reason, b""
    try:
        _evaluated()(found.encoded)
    except tf.errors.OpError:
        return image_files.why_not_decoded(found.encoded), b""
    return READ, found.encoded


if __name__ == "__main__":
    sys.exit(main())
