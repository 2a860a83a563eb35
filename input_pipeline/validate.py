"""Check a prepared dataset.

    python -m input_pipeline.validate --data_dir DIR

Everything that would stop a training run, or quietly spoil it, is looked for before the
run: every TFRecord file against dataset_info.json and its CRCs, every field, every
image with the decoder of training, images that are there twice. What can be found is
listed in input_pipeline/validation/findings.py. Repeated images are an error, but a
warning while they are fewer than one in a thousand of each split: ImageNet itself has a
few hundred.

Exit status: 0, there is no error, though there may be warnings; 1, there is one; 2, the
dataset cannot be looked at; 130, Ctrl-C.

With --json, stdout is one object:
  data_dir, name: str, of the dataset.
  sound: bool, there is no error.
  errors, warnings: int, findings of each sort.
  decoded: bool, false with --skip_decode.
  splits: by name, an object each:
    files, listed_records: int, as dataset_info.json says.
    images: int, records found with image bytes.
    bytes: int, of the files.
    height, width, image_bytes, images_per_class: {"min": int, "median": float,
      "max": int}, or null where there is no image to tell from.
    small_images: int, with a side of fewer than 32 pixels.
  findings: an array of an object for each kind found, errors first:
    kind: str, its name in findings.py, in lower case.
    title, remedy: str, for people.
    error: bool, false for a warning.
    count: int.
    places: an array of the first 10, {"file": str, a split for "empty_class" and
      "other_counts", "record": int from 0 or null, "image": its image/filename or "",
      "detail": str}.
"""

import argparse
import json
import sys

from common import cli, storage_errors
from common.errors import Status


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("input_pipeline.validate", __doc__)
    parser.add_argument(
        "--data_dir", type=cli.path, required=True, help="a folder or a bucket"
    )
    parser.add_argument("--split", help="look at this one alone, or train[:20shard]")
    cli.add_workers(parser)
    parser.add_argument(
        "--skip_decode", action="store_true", help="read no more than JPEG headers"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Print the report; NO where the dataset is not sound."""
    import tensorflow as tf

    from input_pipeline.errors import DataError
    from input_pipeline.validation.inspect_dataset import inspect_dataset
    from input_pipeline.validation.report import as_json, as_text
    from input_pipeline.worker_pool import leave_gpus_alone

    leave_gpus_alone()
    try:
        report = inspect_dataset(
            arguments.data_dir,
            split=arguments.split,
            workers=arguments.workers,
            decode=not arguments.skip_decode,
        )
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(
            arguments.data_dir, error, mistake=DataError
        ) from error
    print(json.dumps(as_json(report)) if arguments.json else as_text(report))
    return Status.NO if report.findings.errors else Status.OK


if __name__ == "__main__":
    sys.exit(main())
