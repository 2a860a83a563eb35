"""Classify images with an exported SavedModel, or with weights that others trained.

    python -m train.classify --pretrained=efficientnet-lite0 photo.jpg folder ...
    python -m train.classify --export_dir=runs/mnist/export photo.jpg folder ...
    python -m train.classify --export_dir=runs/mnist/export photos --output=table.csv
    python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/*'

WebPs, BMPs, GIFs, TIFFs and PNMs are converted as prepare does it; JPEGs and PNGs are
the SavedModel's own. Of a folder, all images in it and below it are classified. What
cannot be is named on standard error, and hides nothing else; so is a JPEG of which a
part is lost.

{PRETRAINED} It
prints five classes an image, --export_dir one; --top_k says another number.

--output writes a row an image: its file, its label, the likeliest classes with their
probabilities, and the problem if there is one. A photo has a label where its folder is
named like a class, a record where it says one; then the accuracy of each class and the
confusion matrix are written, too: into the .json, or beside a .csv as .classes.csv.

Exit status: 1 when records get other classes than the trainer gave them; 2 when an
image or a record could not be classified.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from common import cli, console, files
from common.errors import Status, UserError
from train.exports import tables
from train.weights import flags

_TOP = 5  # classes of an image in a table, and of what weights alone say


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
    said = (__doc__ or "").format(PRETRAINED=flags.HELP)
    parser = cli.parser("train.classify", said)
    flags.add(parser, "--export_dir", "what train.export wrote")
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
        metavar="K",
        help="likeliest classes to print, and in a row of it (5)",
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
    flags.check(arguments, "--export_dir")
    if arguments.tfrecords and arguments.pretrained is not None:
        raise UserError("--tfrecords goes with --export_dir: name image files")
    return _of_records(arguments) if arguments.tfrecords else _of_files(arguments)


class _Model(NamedTuple):
    """What classifies files.

    Attributes:
      classify: as `serving.classify`, without its folder.
      names: of the classes.
      offset: the label of class 0.
    """

    classify: Callable[..., Iterator[Any]]
    names: Callable[[], Sequence[str]]
    offset: int


def _load(arguments: argparse.Namespace) -> _Model:
    # It takes seconds to import: only once the flags are right.
    from train import serving

    if arguments.pretrained is None:
        export_dir = arguments.export_dir
        return _Model(
            functools.partial(serving.classify, export_dir),
            functools.partial(serving.read_names, export_dir),
            serving.read_labels(export_dir).offset if arguments.output else 0,
        )
    from train import datasets
    from train.exports.saved_model import Servable
    from train.weights import classifiers

    path = arguments.pretrained
    network = classifiers.describe(
        path, variant=arguments.variant, labels=arguments.labels or ""
    )
    model = classifiers.load(path, network)
    crop = datasets.authors_crop(network.variant, model.input_shape[1])
    signature = Servable(model, network.names, crop).image_bytes
    return _Model(
        functools.partial(serving.classify_by, signature), lambda: network.names, 0
    )


def _of_files(arguments: argparse.Namespace) -> Status:
    model = _load(arguments)
    from train.exports import image_files

    images = image_files.read_files(arguments.files)
    if arguments.output:
        images = image_files.label_by_folder(images, model.names(), model.offset)
    _, unusable = _classified(arguments, model, images, arguments.show)
    return Status.MISTAKE if unusable else Status.OK


def _of_records(arguments: argparse.Namespace) -> Status:
    from train import serving
    from train.exports import image_files

    export_dir, pattern = arguments.export_dir, arguments.tfrecords
    expected = serving.read_predictions(export_dir)
    serving.warn_of_other_classes(export_dir, pattern)
    images = image_files.read_tfrecords(pattern, serving.read_labels(export_dir).fields)
    most = 10 if arguments.show is None else arguments.show
    model = _load(arguments)
    results, unusable = _classified(arguments, model, images, most)
    agrees = serving.summarize(results, expected)
    if not agrees:
        console.say("the SavedModel predicts other classes than the trainer did")
    if unusable:
        return Status.MISTAKE
    return Status.OK if agrees else Status.NO


def _classified(
    arguments: argparse.Namespace,
    model: _Model,
    images: Iterable[Any],
    most: int | None,
) -> tuple[list[Any], int]:
    """Say what images are, and write the table if one is asked for.

    Returns:
      Their results, and how many are unusable.
    """
    from train import serving

    path = arguments.output
    top = arguments.top_k or (1 if arguments.pretrained is None else _TOP)
    names = model.names() if path or top > 1 else ()
    if not path:
        found = model.classify(images, top=top)
        return serving.show(found, most=most, top=top, names=names)
    if "://" in path:  # of a disk, the flag has told
        _refuse_foreign(path)
    rows: list[tables.Row] = []
    found = model.classify(images, top=arguments.top_k or _TOP)
    found = serving.recorded(found, names, rows)
    shown = serving.show(found, most=most, top=top, names=names)
    _write_table(path, rows, list(names))
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
