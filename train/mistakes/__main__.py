r"""Show what a trained network gets wrong: a page of its mistakes, and a few lines.

    python -m train.mistakes --model_dir=runs/photos
    python -m train.mistakes --model_dir=runs/photos --best --images=100
    python -m train.mistakes --model_dir=runs/photos \
      --gin_param="experiment.Experiment.eval_split = 'train'"

Scores the newest checkpoint anew, on the run's own evaluation split or another one. The
page has the surest mistakes as pictures, what is taken for what, the accuracy of each
class and the confusion matrix. It goes to the run's folder evaluations/, beside the
scores; nothing that the training has written is touched.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from common import cli
from common.console import count, escaped, table
from common.errors import UserError
from train.settings import flags

_MOST_IMAGES = 200
_MOST_LINES = 10
_PICTURES = 24  # where the run's own setting says none


def _images(text: str) -> int:
    images = cli.positive(text)
    if images > _MOST_IMAGES:
        raise argparse.ArgumentTypeError(f"choose 1 to {_MOST_IMAGES}, not {text}")
    return images


def _page(text: str) -> str:
    path = cli.path(text)
    if not path.lower().endswith((".html", ".htm")):
        raise argparse.ArgumentTypeError(
            f"{path} is no .html; name it so, it will be one"
        )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("train.mistakes", __doc__)
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument(
        "--model_dir",
        type=cli.weights_path,
        required=True,
        help="folder of the run; local or gs://",
    )
    parser.add_argument(
        "--images", type=_images, help=f"how many pictures (the run's, or {_PICTURES})"
    )
    parser.add_argument(
        "--output",
        type=_page,
        metavar="FILE",
        help="the .html to write, instead of one in the run's folder evaluations/",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--best", action="store_true", help="of the best checkpoint, not the newest"
    )
    which.add_argument(
        "--step", type=cli.number(int, least=0), help="of the checkpoint of this step"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Score, write the page, and print what is taken for what."""
    model_dir = arguments.model_dir.rstrip("/")
    if not model_dir:
        raise UserError("--model_dir is /; name the folder of a run")
    # What follows takes seconds to import: only once the flags are right.
    from absl import logging

    from common import gfiles
    from train import config, run, run_folder
    from train.mistakes import page

    logging.set_verbosity(logging.WARNING)  # Orbit's notes say what ours say
    if arguments.output:  # known before the work is done
        gfiles.refuse_foreign(arguments.output, page.is_ours)
    best, step = arguments.best, arguments.step
    if of := run_folder.run_of_best(model_dir):
        model_dir, best = of, step is None
    resolved = config.resolve(
        arguments.gin_file,
        arguments.gin_param,
        model_dir=model_dir,
    )
    images = arguments.images or resolved.experiment.mistake_images or _PICTURES
    experiment = dataclasses.replace(resolved.experiment, mistake_images=images)
    answer = run.evaluate(
        experiment, model_dir, best=best, step=step, output=arguments.output
    )
    if found := answer.get("mistakes"):  # of several processes the chief has them
        print("\n".join(map(escaped, _lines(found))))


def _lines(mistakes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is taken for what, the most frequent first."""
    found = mistakes["confusions"]
    if not found:
        yield "nothing is taken for anything else"
        return
    head = ("class", "taken for", "images")
    rows = [
        (one["class"], one["predicted"], f"{one['images']:,}")
        for one in found[:_MOST_LINES]
    ]
    yield from table([head, *rows], right=(2,))
    shown = sum(one["images"] for one in found[:_MOST_LINES])
    if rest := mistakes["wrong"] - shown:
        yield f"... and {count(rest, 'more mistake')}"


if __name__ == "__main__":
    cli.leave(main())
