"""Classify images with an exported SavedModel; needs TensorFlow only.

    python -m train.classify --export_dir=runs/mnist/export photo.jpg folder ...
    python -m train.classify --export_dir=runs/mnist/export photos --output=table.csv
    python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/*'

WebPs, BMPs, GIFs, TIFFs and PNMs are converted as prepare does it; JPEGs and PNGs are
the SavedModel's own. Of a folder, all images in it and below it are classified. What
cannot be is named on standard error, and hides nothing else; so is a JPEG of which a
part is lost.

--output writes a row an image: its file, its label, the likeliest classes with their
probabilities, and the problem if there is one. A photo has a label where its folder is
named like a class, a record where it says one; then the accuracy of each class and the
confusion matrix are written, too: into the .json, or beside a .csv as .classes.csv.

Exit status: 1 when records get other classes than the trainer gave them; 2 when an
image or a record could not be classified.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from typing import Any

from common import cli, console, files
from common.errors import Status, UserError
from train.exports import tables


def _table(text: str) -> str:
    """Return where a table may be written; known before any image is read."""
    path = cli.path(text)
    if not path.endswith((".csv", ".json", ".jsonl")):
        raise argparse.ArgumentTypeError(
            f"{path} is no .csv, .json or .jsonl: name it so, it will be one"
        )
    if "://" in path:
        return path
    if not os.path.isdir(folder := os.path.dirname(path) or "."):
        raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    try:
        for one in _written(path):
            files.refuse_foreign(one, tables.is_ours(one))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def _written(path: str) -> tuple[str, ...]:
    """Return what a table may consist of."""
    return (path, tables.beside(path))[: 1 + path.endswith(".csv")]


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("train.classify", __doc__)
    parser.add_argument(
        "--export_dir",
        type=cli.weights_path,
        required=True,
        help="what train.export wrote",
    )
    parser.add_argument(
        "--tfrecords", type=cli.path, help="pattern of TFRecords to classify"
    )
    parser.add_argument(
        "--show",
        type=cli.number(int, least=0),
        help="results to print (of files all, of records 10)",
    )
    parser.add_argument(
        "--output",
        type=_table,
        metavar="FILE",
        help="a .csv, .json or .jsonl to write, with a row an image",
    )
    parser.add_argument(
        "--top_k",
        type=cli.positive,
        default=5,
        metavar="K",
        help="likeliest classes in a row of it (%(default)s)",
    )
    parser.add_argument(
        "files", type=cli.local_path, nargs="*", help="images, or folders of them"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Classify, and print a line an image."""
    if bool(arguments.tfrecords) == bool(arguments.files):
        raise UserError("name image files or --tfrecords, one of the two")
    return _of_records(arguments) if arguments.tfrecords else _of_files(arguments)


def _of_files(arguments: argparse.Namespace) -> Status:
    # It takes seconds to import: only once the flags are right.
    from train import serving
    from train.exports import image_files

    export_dir = arguments.export_dir
    images = image_files.read_files(arguments.files)
    if arguments.output:
        first = serving.read_labels(export_dir).offset
        names = serving.read_names(export_dir)
        images = image_files.label_by_folder(images, names, first)
    _, unusable = _classified(arguments, images, arguments.show)
    return Status.MISTAKE if unusable else Status.OK


def _of_records(arguments: argparse.Namespace) -> Status:
    from train import serving
    from train.exports import image_files

    export_dir, pattern = arguments.export_dir, arguments.tfrecords
    expected = serving.read_predictions(export_dir)
    serving.warn_of_other_classes(export_dir, pattern)
    images = image_files.read_tfrecords(pattern, serving.read_labels(export_dir).fields)
    most = 10 if arguments.show is None else arguments.show
    results, unusable = _classified(arguments, images, most)
    agrees = serving.summarize(results, expected)
    if not agrees:
        console.say("the SavedModel predicts other classes than the trainer did")
    if unusable:
        return Status.MISTAKE
    return Status.OK if agrees else Status.NO


def _classified(
    arguments: argparse.Namespace, images: Iterable[Any], most: int | None
) -> tuple[list[Any], int]:
    """Say what images are, and write the table if one is asked for.

    Returns:
      Their results, and how many are unusable.
    """
    from train import serving

    export_dir, path = arguments.export_dir, arguments.output
    if not path:
        return serving.show(serving.classify(export_dir, images), most=most)
    if "://" in path:  # of a disk, the flag has told
        _refuse_foreign(path)
    names, rows = serving.read_names(export_dir), []
    found = serving.classify(export_dir, images, top=arguments.top_k)
    shown = serving.show(serving.recorded(found, names, rows), most=most)
    _write_table(path, rows, names)
    return shown


def _refuse_foreign(path: str) -> None:
    from common import gfiles

    for one in _written(path):
        gfiles.refuse_foreign(one, tables.is_ours(one))


def _write_table(path: str, rows: list[tables.Row], names: list[str]) -> None:
    from common import gfiles

    top = max((len(row.top) for row in rows), default=1)
    written = tables.files(path, rows, names, top)
    for one, data in written.items():
        gfiles.write_bytes(one, data, is_ours=tables.is_ours(one))
    for other in set(_written(path)).difference(written):
        gfiles.refuse_foreign(other, tables.is_ours(other))
        gfiles.remove(other)  # it is of the images of an earlier call
    print("\n".join(tables.summary(rows, names)) or "No label is known")
    said = f"wrote {' and '.join(written)}: {console.count(len(rows), 'row')}"
    console.say(console.escaped(said))


if __name__ == "__main__":
    sys.exit(main())
