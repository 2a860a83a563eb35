"""README's picture as figures: networks and their layers under a roof, in JSON.

    python -m benchmarks.tpu.roofline --output=benchmarks/results/tpu.roofline.json

The rows of `performance.roofline`, from which `docgen.pictures` draws the picture and
compiles nothing. No TPU is run: times are the compiler's estimates.

Exit status: 0 every network has an estimate, 1 one has not, 2 there is no answer.
"""

import argparse
import dataclasses
import sys
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.errors import Status, UserError
from models import get_variant
from performance import devices
from performance.analysis import analyse
from performance.roofline import estimate_all
from performance.roofline_text import text
from tpu_compiler import environment

_DOES_NOT_SHOW = (
    "a TPU: times are sums of the compiler's cycle estimates, of which no ratio was "
    "confirmed on one; training"
)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.roofline", __doc__)
    parser.add_argument(
        "--variants",
        type=cli.names,
        default=["efficientnet-b0", "efficientnet-x-b0"],
        help="default: efficientnet-b0,efficientnet-x-b0",
    )
    parser.add_argument("--hardware", default="tpu-v3", help="(%(default)s)")
    parser.add_argument(
        "--batch", type=cli.positive, default=64, help="images at once (%(default)s)"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Analyse, print the table and the line."""
    conditions: dict[str, Any] = {"batch": arguments.batch, "dtype": "bfloat16"}
    where = machine.describe()  # before this benchmark is part of the load
    variants = [get_variant(name) for name in arguments.variants]
    hardware = devices.find(arguments.hardware)
    found = estimate_all(variants, hardware, **conditions)
    if found.reason:
        raise UserError(f"there are no estimates: {found.reason}")
    rows = [
        row
        for one in variants
        for row in analyse(
            one, hardware, estimate=found.by_network.get(one.name), **conditions
        )
    ]
    networks = [row for row in rows if row.level == "network"]
    print(text(networks, hardware, "bfloat16", failed=found.failed, reason=""))
    report = {
        "benchmark": "tpu.roofline",
        "rows": [dataclasses.asdict(row) for row in rows],
        "not_estimated": found.failed,
        "settings": {"hardware": hardware.name, "device": hardware.device} | conditions,
        "machine": where,
        "versions": environment().versions,
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    return Status.NO if found.failed else Status.OK


if __name__ == "__main__":
    sys.exit(main())
