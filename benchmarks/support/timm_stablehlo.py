"""Write a network of timm's as StableHLO, from timm's own code and without weights.

    python -m benchmarks.support.timm_stablehlo regnety_040 FILE --resolution=224

A process of its own, because torch crashes in one that has loaded TensorFlow.
`make with-peers` installs timm and torch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from common import cli, extras, files
from common.cli import positive
from common.errors import UserError, first_line

_NEEDED = ("jax", "timm", "torch")


def _stablehlo(network: str, **options: Any) -> str:
    """Return the text; UserError if there is none."""
    extras.require(*_NEEDED, task=network)
    from benchmarks.support import timm_networks  # loads them

    try:
        return timm_networks.stablehlo(network, **options)
    except (ValueError, RuntimeError) as error:  # NotImplementedError is the latter
        raise UserError(f"{network}: {first_line(error)}") from error


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.support.timm_stablehlo", __doc__)
    parser.add_argument("network", help="timm's name")
    parser.add_argument("output", type=cli.path, help="a new file for the text")
    parser.add_argument("--resolution", type=positive, required=True, help="pixels")
    parser.add_argument("--batch", type=positive, default=64, help="images")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument(
        "--pad_groups",
        dest="padded",
        action="store_true",
        help="of a RegNet to a multiple of 128 channels",
    )
    return parser


def _never(head: bytes) -> bool:
    return False


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Run the command line."""
    options = vars(arguments)
    network, output = options.pop("network"), options.pop("output")
    files.refuse_foreign(output, _never)  # nothing tells our texts from others'
    folder = Path(output).parent
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; make it, or name another file")
    text = _stablehlo(network, **options)
    try:
        files.write_bytes(output, text.encode(), is_ours=_never)
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}; name another file") from error


if __name__ == "__main__":
    sys.exit(main())
