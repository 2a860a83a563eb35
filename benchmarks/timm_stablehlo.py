"""Writes a network of timm's as StableHLO, from timm's own code and without weights.

python -m benchmarks.timm_stablehlo regnety_040 FILE --resolution=224 --pad_groups

A process of its own, because torch crashes in one that has loaded TensorFlow.
`make peers` installs timm and torch.
"""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cli import positive
from common.errors import UserError, reported  # without TensorFlow

_NEEDED = ("jax", "timm", "torch")


def _stablehlo(network: str, **options: Any) -> str:
    """Returns the text; UserError if there is none."""
    if not all(map(importlib.util.find_spec, _NEEDED)):
        raise UserError(f"{network} needs {', '.join(_NEEDED)}: make peers")
    from benchmarks.support import timm_networks  # loads them

    try:
        return timm_networks.stablehlo(network, **options)
    except (ValueError, RuntimeError) as error:  # NotImplementedError is the latter
        raise UserError(f"{network}: {error}") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", help="timm's name")
    parser.add_argument("output", type=Path, help="for the text")
    parser.add_argument("--resolution", type=positive, required=True, help="pixels")
    parser.add_argument("--batch", type=positive, default=64, help="images")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument(
        "--pad_groups",
        dest="padded",
        action="store_true",
        help="of a RegNet to a multiple of 128 channels",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = vars(_parse(argv))
    network, output = options.pop("network"), options.pop("output")
    with reported():
        text = _stablehlo(network, **options)
        try:
            output.write_text(text)
        except OSError as error:
            raise UserError(f"{output}: {error.strerror}; name another file") from error


if __name__ == "__main__":
    main()
