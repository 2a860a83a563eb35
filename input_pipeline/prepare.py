"""Write a dataset as the TFRecords that training reads.

    python -m input_pipeline.prepare mnist --output data/mnist
    python -m input_pipeline.prepare imagenet --help

A run that was cut short is finished by the same command: it leaves no half file, and
dataset_info.json comes last. A second run over a finished dataset checks it and writes
nothing. The bytes written do not depend on --workers.

Exit status: 0, the dataset is whole; 2, a mistake that the last line names; 130,
Ctrl-C.
"""

import argparse
import os
import re
import sys

from common import cli
from common.errors import UserError


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("input_pipeline.prepare", __doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_imagefolder(commands)
    _add_imagenet(commands)
    _add_tfrecords(commands)
    one = _add(commands, "mnist", "5,000 handwritten digits, no download")
    _add_output(one)
    one.add_argument(
        "--shards", type=cli.positive, default=8, help="training files (8)"
    )
    return parser


def _add_imagefolder(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "imagefolder",
        "folders of images, one a class, or with a table of labels",
        "DIR holds a folder of images for each class (DIR/dog/x.jpg), or train/ and "
        "perhaps validation/ and test/ (also Training, val, dev, seg_test ...), which "
        "hold them. Images may lie at any depth. They are JPEG, PNG, WebP, BMP, GIF, "
        "TIFF or PPM by their content; of several frames, the first is taken. "
        "RGB JPEGs are stored as they are, all else as an RGB JPEG of quality 95, with "
        "white for what is transparent. "
        "Labels begin at 1, in the order of the folders' names. ImageNet as Kaggle "
        "hands it out, Tiny ImageNet, Food-101, CUB-200 and the Oxford pets are known "
        "by what lies in DIR. It may be a tar file, which is read in place.",
    )
    one.add_argument(
        "--source",
        type=cli.path,
        required=True,
        metavar="DIR",
        help="the images: a folder, or a tar file of one",
    )
    _add_labels(one)
    _add_output(one)
    one.add_argument(
        "--shards",
        type=cli.positive,
        metavar="N",
        help="training files (by default, and for other splits: of about 150 MB, or 16 "
        "if each then has 16 images)",
    )
    one.add_argument(
        "--validation_fraction",
        type=cli.number(least=0, below=1),
        metavar="F",
        help="of each class, hold out so much to validate, one image at least where "
        "there are two; 0 is none (0.2 where DIR has training images alone, else 0)",
    )
    one.add_argument(
        "--layout",
        choices=("auto", "classes", "splits"),
        default="auto",
        help="what the folders in DIR are, where their names leave it open (auto)",
    )
    one.add_argument(
        "--allow_one_class",
        action="store_true",
        help="take a single class, too: mostly, it is a DIR too high or too low",
    )
    _add_work(one)
    _add_orientation(one, as_stored=False)


def _add_labels(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--labels",
        type=cli.path,
        action="append",
        default=[],
        metavar="TABLE",
        help="a CSV or TSV with a line for each image that lies in no class folder: "
        "its file or id, its class, and perhaps its split; may be repeated, as "
        "train.csv and val.csv",
    )
    for column, what in (
        ("file", "the images' files or ids"),
        ("label", "their classes"),
        ("split", "their splits"),
    ):
        one.add_argument(
            f"--{column}_column",
            metavar="NAME",
            help=f"the column of TABLE with {what}, or its number from 1, where its "
            "name does not tell",
        )


def _add_imagenet(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "imagenet",
        "ILSVRC 2012, from its tar files or folders",
        "The tar files are read in place, never extracted: OUT needs as much room as "
        "they take, 145 GB. Labels are 1 to 1000, in the order of the synsets.",
    )
    source = one.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--train_tar", type=cli.path, metavar="TAR", help="ILSVRC2012_img_train.tar"
    )
    source.add_argument(
        "--source",
        type=cli.path,
        metavar="DIR",
        help="instead of tar files, what they hold: Kaggle's ILSVRC/Data/CLS-LOC, with "
        "train/ and val/",
    )
    one.add_argument(
        "--validation_tar",
        type=cli.path,
        metavar="TAR",
        help="ILSVRC2012_img_val.tar; needs --labels",
    )
    one.add_argument(
        "--labels",
        type=cli.path,
        metavar="FILE",
        help="ILSVRC2012_devkit_t12.tar.gz, or a text file of the validation images' "
        "synsets in order, one a line; with --source, LOC_val_solution.csv beside the "
        "images does as well",
    )
    _add_output(one)
    one.add_argument(
        "--shards",
        type=cli.positive,
        default=1024,
        metavar="N",
        help="training files (1024)",
    )
    one.add_argument(
        "--validation_shards",
        type=cli.positive,
        default=128,
        metavar="N",
        help="validation files (128)",
    )
    _add_work(one)
    _add_orientation(one, as_stored=True)


def _add_tfrecords(commands: argparse._SubParsersAction) -> None:
    one = _add(
        commands,
        "tfrecords",
        "TFRecords that exist already, also TensorFlow Datasets'",
        "Read every TFRecord in DIR, and in the folders in it, once, check it, and "
        "write dataset_info.json. Nothing is copied, but with --shuffle. Names of "
        "files tell their split, and names of fields what they hold, where it is "
        "usual.",
    )
    one.add_argument(
        "--source",
        type=cli.path,
        required=True,
        metavar="DIR",
        help="the TFRecords; may be a bucket",
    )
    one.add_argument(
        "--output",
        type=cli.path,
        metavar="OUT",
        help="the folder for dataset_info.json, which training then reads (DIR); it "
        "has to be another one where DIR has a dataset_info.json of another tool, and "
        "for --shuffle",
    )
    one.add_argument(
        "--split",
        type=_split,
        action="append",
        default=[],
        metavar="NAME=PATTERN",
        help="take the files of this split by a pattern, as train='train/*.tfrec'; "
        "may be repeated, and then no other split is taken",
    )
    one.add_argument(
        "--image_field", metavar="FIELD", help="the records' field with the JPEG"
    )
    one.add_argument(
        "--label_field", metavar="FIELD", help="the records' field with the label"
    )
    one.add_argument(
        "--label_offset",
        type=cli.number(int, least=0),
        metavar="N",
        help="the label of the first class (1, or 0 of TensorFlow Datasets)",
    )
    one.add_argument(
        "--labels",
        type=cli.path,
        metavar="NAMES.txt",
        help="the classes' names, one a line (by default those of TensorFlow Datasets, "
        "or the records' own texts)",
    )
    one.add_argument(
        "--shuffle",
        action="store_true",
        help="write the records anew into OUT, in a mixed order, each as it is: for "
        "such as are sorted by class",
    )
    one.add_argument(
        "--allow_one_class",
        action="store_true",
        help="take a single class, too: mostly, files or a field are other ones",
    )
    cli.add_workers(one)


def _split(text: str) -> tuple[str, str]:
    name, _, pattern = text.partition("=")
    if not re.fullmatch(r"\w+", name) or not pattern:
        raise argparse.ArgumentTypeError(f"{text} is not of the form train=PATTERN")
    return name, pattern


def _add(
    commands: argparse._SubParsersAction,
    name: str,
    summary: str,
    description: str | None = None,
) -> argparse.ArgumentParser:
    one = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False
    )
    one.add_argument(
        "--overwrite_info",
        action="store_true",
        help="write dataset_info.json anew where it says something else, such as names "
        "of classes that somebody has mended",
    )
    return one


def _add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--output",
        type=cli.path,
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
        "pixels or 1 GiB: stop and name it, or skip it and list it (stop)",
    )
    cli.add_workers(one)


def _add_orientation(one: argparse.ArgumentParser, *, as_stored: bool) -> None:
    """Add the two flags; without either, the value is None, or False if `as_stored`."""
    unless_said = "as they are stored" if as_stored else "upright"
    flags = one.add_mutually_exclusive_group()
    flags.add_argument(
        "--apply_orientation",
        action="store_true",
        default=False if as_stored else None,
        help="see photos upright: turn those with an EXIF orientation, and store them "
        f"as RGB JPEGs of quality 95; without either flag, photos are {unless_said}",
    )
    flags.add_argument(
        "--no_apply_orientation",
        action="store_false",
        dest="apply_orientation",
        help="take all photos as they are stored, byte for byte",
    )


@cli.command(_parser, interrupted="interrupted: the same command goes on from here")
def main(arguments: argparse.Namespace) -> None:
    """Write a dataset, or what is missing of it; say in one line what was done."""
    _check(arguments)
    from input_pipeline.preparation import commands
    from input_pipeline.worker_pool import leave_gpus_alone

    leave_gpus_alone()
    print(commands.run(arguments))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    if arguments.command == "imagenet":
        _check_labels(arguments)
    if arguments.command == "imagefolder":
        _check_columns(arguments)
    if getattr(arguments, "source", None) and arguments.command != "tfrecords":
        _check_output(arguments)
    if arguments.command == "tfrecords":
        _check_splits(arguments)


def _check_labels(arguments: argparse.Namespace) -> None:
    if arguments.source is not None:
        if arguments.validation_tar is not None:
            raise UserError("--source holds val/, too: leave out --validation_tar")
        return
    if (arguments.validation_tar is None) != (arguments.labels is None):
        raise UserError("--validation_tar and --labels go together: give both or none")


def _check_columns(arguments: argparse.Namespace) -> None:
    """Refuse what is said of tables that are not named, or contradicts them."""
    if arguments.labels and arguments.layout != "auto":
        raise UserError("--labels tells what --layout would: leave one of them out")
    if arguments.labels:
        return
    for column in ("file", "label", "split"):
        if getattr(arguments, f"{column}_column") is not None:
            raise UserError(f"--{column}_column is of a table: name that by --labels")


def _check_splits(arguments: argparse.Namespace) -> None:
    names = [name for name, _ in arguments.split]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--split names {repeated[0]} twice: give one pattern a split")
    if arguments.shuffle and arguments.output is None:
        raise UserError(
            "--shuffle writes the records anew: name a folder for them, --output=OUT"
        )


def _check_output(arguments: argparse.Namespace) -> None:
    """Keep images and records apart: one may be deleted without the other."""
    flags = f"--output {arguments.output}", f"--source {arguments.source}"
    if "://" in arguments.output or not os.path.isdir(arguments.source):
        return  # images are on a disk; that there are none is told later
    output, source = map(os.path.realpath, (arguments.output, arguments.source))
    if output == source or os.path.commonpath([output, source]) == source:
        raise UserError(
            f"{flags[0]} lies in {flags[1]}, where it would be taken for a class: "
            "choose a folder outside"
        )
    if os.path.commonpath([output, source]) == output:
        raise UserError(
            f"{flags[0]} holds {flags[1]}, and who deletes the one would lose the "
            "other: choose a folder beside"
        )


if __name__ == "__main__":
    sys.exit(main())
