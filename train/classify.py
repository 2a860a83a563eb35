"""Classify JPEG and PNG files with an exported SavedModel; needs TensorFlow only.

    python -m train.classify --export_dir=runs/mnist/export photo.jpg ...
    python -m train.classify --export_dir=runs/mnist/export --tfrecords='DIR/*'

Exit status: 1 when records get other classes than the trainer gave them.
"""

import argparse
import sys

from common import cli, console
from common.errors import Status, UserError


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("train.classify", __doc__)
    parser.add_argument(
        "--export_dir", type=cli.path, required=True, help="what train.export wrote"
    )
    parser.add_argument(
        "--tfrecords", type=cli.path, help="pattern of TFRecords to classify"
    )
    parser.add_argument(
        "--show", type=cli.number(int, least=0), default=10, help="results to print"
    )
    parser.add_argument("files", type=cli.path, nargs="*", help="JPEG or PNG files")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Classify, and print a line an image."""
    if bool(arguments.tfrecords) == bool(arguments.files):
        raise UserError("name image files or --tfrecords, one of the two")
    # It takes seconds to import: only once the flags are right.
    from train import serving

    records = arguments.tfrecords
    images = (
        serving.read_tfrecords(records, arguments.export_dir)
        if records
        else serving.read_files(arguments.files)
    )
    results = list(serving.classify(arguments.export_dir, images))
    for result in results[: arguments.show] if records else results:
        print(f"{result.name}: {result.class_name} ({result.probability:.1%})")
    if records and not serving.summarize(results, arguments.export_dir):
        console.say("the SavedModel predicts other classes than the trainer did")
        return Status.NO
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
