"""Classify images with an exported SavedModel; needs TensorFlow only.

    python -m train.classify --export_dir=runs/mnist/export photo.jpg folder ...
    python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/*'

WebPs, BMPs, GIFs, TIFFs and PNMs are converted as prepare does it; JPEGs and PNGs are
the SavedModel's own. Of a folder, all images in it and below it are classified. What
cannot be is named on standard error, and hides nothing else; so is a JPEG of which a
part is lost.

Exit status: 1 when records get other classes than the trainer gave them; 2 when an
image or a record could not be classified.
"""

import argparse
import sys

from common import cli, console
from common.errors import Status, UserError


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
        "files", type=cli.local_path, nargs="*", help="images, or folders of them"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Classify, and print a line an image."""
    if bool(arguments.tfrecords) == bool(arguments.files):
        raise UserError("name image files or --tfrecords, one of the two")
    # It takes seconds to import: only once the flags are right.
    from train import serving
    from train.exports import image_files

    export_dir, pattern = arguments.export_dir, arguments.tfrecords
    if not pattern:
        images = image_files.read_files(arguments.files)
        found = serving.classify(export_dir, images)
        _, unusable = serving.show(found, most=arguments.show)
        return Status.MISTAKE if unusable else Status.OK
    expected = serving.read_predictions(export_dir)
    images = image_files.read_tfrecords(pattern, serving.read_labels(export_dir).fields)
    results, unusable = serving.show(
        serving.classify(export_dir, images),
        most=10 if arguments.show is None else arguments.show,
    )
    agrees = serving.summarize(results, expected)
    if not agrees:
        console.say("the SavedModel predicts other classes than the trainer did")
    if unusable:
        return Status.MISTAKE
    return Status.OK if agrees else Status.NO


if __name__ == "__main__":
    sys.exit(main())
