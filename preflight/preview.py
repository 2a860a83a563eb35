r"""Show what the trainer will be fed: a picture of its first images and their labels.

    python -m preflight.preview --gin_file=gin_configs/models/efficientnet_x_b0.gin \
      --gin_file=gin_configs/runs/imagenet.gin --data_dir=data/photos --output=sheet.png

Takes the settings of `train.main`. Each image is seen whole, cropped and flipped,
augmented and, where the run mixes images, mixed with another one of the sheet: the
trainer mixes it with one of its own, larger batch. The images are those of a run on one
host; each of several hosts has an order of its own. A sheet of before is replaced, if
nobody has changed it, and no other file.
"""

import argparse
import functools
import io
import sys
from typing import TYPE_CHECKING

from common import cli, files, storage_errors
from common.console import count
from common.errors import UserError
from train.settings import flags

if TYPE_CHECKING:
    from PIL import Image

_COMMAND = "preflight.preview"
_MAX_IMAGES = 256

_is_ours = functools.partial(files.is_our_png, command=_COMMAND)


def _images(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_IMAGES:
        raise argparse.ArgumentTypeError(f"choose 1 to {_MAX_IMAGES}, not {text}")
    return int(text)


def _png(text: str) -> str:
    path = cli.path(text)
    if not path.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(
            f"{path} is no .png; name it so, it will be one"
        )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(_COMMAND, __doc__)
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument("--output", type=_png, required=True, help="the .png to write")
    parser.add_argument(
        "--images", type=_images, default=16, help="how many (%(default)s)"
    )
    parser.add_argument("--data_dir", type=cli.path, help="instead of the config's")
    parser.add_argument("--seed", type=cli.number(int), help="instead of the config's")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Draw the first images, and write the picture."""
    if "://" not in arguments.output:  # before TensorFlow is imported
        files.refuse_foreign(arguments.output, _is_ours)
    from preflight.first_images import draw
    from train import config

    _check_place(arguments.output)
    bindings = [
        f"experiment.Experiment.{name} = {value!r}"
        for name in ("data_dir", "seed")
        if (value := getattr(arguments, name)) is not None
    ]
    experiment = config.parse(arguments.gin_file, [*arguments.gin_param, *bindings])
    _write(draw(experiment, arguments.images), arguments.output)
    print(f"wrote {arguments.output}, {count(arguments.images, 'image')}")


def _check_place(path: str) -> None:
    """Refuse a place where no picture may be written, before the work is done."""
    import tensorflow as tf

    from common import gfiles

    gfiles.refuse_foreign(path, _is_ours)
    folder = path.rpartition("/")[0]
    if folder and not tf.io.gfile.isdir(folder):
        raise UserError(
            f"there is no folder {folder} for --output; make it, or name another"
        )


def _write(sheet: "Image.Image", path: str) -> None:
    import tensorflow as tf

    from common import gfiles

    png = io.BytesIO()
    sheet.save(png, "PNG")
    try:
        with (
            gfiles.writing(path, is_ours=_is_ours) as staging,
            tf.io.gfile.GFile(staging, "wb") as file,
        ):
            file.write(files.marked_png(png.getvalue(), _COMMAND))
    except tf.errors.OpError as error:
        raise storage_errors.cannot_write(path, error, folder="--output") from error


if __name__ == "__main__":
    sys.exit(main())
