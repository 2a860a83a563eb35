r"""Estimate the latency of inference on one device of a TPU, without a TPU.

    python -m performance.latency --variants=efficientnet-b0,efficientnet-x-b0 \
      --topology=v3 --batch=64 --dtype=bfloat16 --blocks

A device runs one replica: a core of a v2 or v3 chip, a whole chip from v4 on. The
networks are compiled by XLA's TPU compiler, which `make tpu-compiler` installs: a
minute each, and nothing the second time. With --blocks their parts are compiled, too,
each by itself, and equal ones once. --blocks=only compiles no whole network, so that
one of known blocks costs milliseconds:

    python -m performance.latency --variants=efficientnet-x-b0 --blocks=only \
      --stages="{4: {'num_repeat': 5}}" --block_changes="{3: {'fused': False}}"

The exit status is 0 when everything compiles and fits, 1 when something does not, 2
when there is no answer.
"""

import argparse
import dataclasses
import json
import sys

from common import cli
from common.cli import changes, names, positive
from common.errors import Status, UserError
from models.variants import change
from performance import latency_text
from performance.latency_estimates import Blocks, LatencyReport, estimate
from performance.segments import InferenceOptions, resolved
from tpu_compiler import Compiler, Topology, cache_folder


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("performance.latency", __doc__)
    add = parser.add_argument
    add("--variants", type=names, required=True, help="names, separated by commas")
    add("--topology", default="v3", help="whose device; default: %(default)s")
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--dtype", default="bfloat16", help="or float32; default: %(default)s")
    add(
        "--blocks",
        nargs="?",
        choices=Blocks.__args__,
        const="yes",
        default="no",
        help="the time of every part, and their sum; only: of no whole network",
    )
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--workers", type=positive, default=2, help="compilations at once; default: 2")
    options = parser.add_argument_group("how the networks are built, see build_model")
    add = options.add_argument
    add("--num_classes", type=positive, default=1000)
    add("--fold_batch_norm", action="store_true")
    add("--stem_block_size", type=int, default=1)
    add("--stem_reshuffle", default="device")
    add("--input_layout", default="NHWC")
    other = parser.add_argument_group("other networks, all changed alike")
    add = other.add_argument
    help = "fields by the stage's number from 1: \"{3: {'kernel_size': 3}}\""
    add("--stages", type=changes, default={}, help=help)
    help = "fields by the block's index from 0: \"{5: {'fused': True}}\""
    add("--block_changes", type=changes, default={}, help=help)
    return parser


def _estimate(arguments: argparse.Namespace) -> LatencyReport:
    """Return the estimates that the command line asks for."""
    variants = [
        change(resolved(name), arguments.stages, arguments.block_changes)
        for name in arguments.variants
    ]
    fields = [field.name for field in dataclasses.fields(InferenceOptions)]
    options = InferenceOptions(**{name: getattr(arguments, name) for name in fields})
    topology = Topology.parse(arguments.topology)
    with Compiler(arguments.workers) as compiler:
        return estimate(
            variants,
            compiler,
            topology,
            options,
            blocks=arguments.blocks,
            changes={
                "stages": arguments.stages,
                "block_changes": arguments.block_changes,
            },
        )


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    try:
        report = _estimate(arguments)
    except OSError as error:
        raise UserError(
            f"{error.filename or cache_folder().parent}: {error.strerror}; mend that, "
            "or name another folder for caches by XDG_CACHE_HOME"
        ) from error
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(latency_text.text(report))
    return Status.NO if any(one.failures for one in report.networks) else Status.OK


if __name__ == "__main__":
    sys.exit(main())
