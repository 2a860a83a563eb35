r"""Compile a run's steps for a TPU slice, without one: do they compile, do they fit?

    python -m preflight --gin_file=gin_configs/models/efficientnet_x_b0.gin \
      --gin_file=gin_configs/runs/imagenet_tpu.gin --topology=v3:4x4 \
      --gin_param="experiment.Experiment.data_dir = 'gs://bucket/imagenet'"

The compiler is that of TPUs; `make tpu-compiler` installs it. A step takes it minutes,
and the second time seconds. What is known is printed at once: the training first, then
the evaluation, then the largest batch that fits. --tune compiles other forms of the
same network, too, and prints the settings of the fastest. Exit status: 0 everything
compiles and fits as written, 1 something does not, 2 a setting is wrong or the compiler
does not answer.
"""

import argparse
import json
import sys

from common import cli
from common.errors import Status
from tpu_compiler import Compiler, Topology, compilations_at_once
from train.settings import flags


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("preflight", __doc__)
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument(
        "--topology", required=True, help="the slice, as v3:4x4, v4:2x2x1 or v5e:4x4"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text"
    )
    parser.add_argument(
        "--no_largest_batch",
        dest="largest_batch",
        action="store_false",
        help="do not look for the largest batch that fits, which takes about as long "
        "as all before it",
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="look for the form of the network that leaves its numbers as they are and "
        "is fastest there; print what to write for it",
    )
    parser.add_argument(
        "--train_images",
        type=cli.number(int, least=1),
        help="images of the training split, where the data is out of reach",
    )
    parser.add_argument(
        "--input_cpu_ms",
        type=cli.number(above=0),
        help="what an image costs a core of a host, by benchmarks.input there; by "
        "default it is measured here, where the data can be read",
    )
    parser.add_argument(
        "--workers",
        type=cli.positive,
        default=compilations_at_once(),
        help="compilations at the same time (%(default)s here: for each a core and "
        "3.5 GB of memory)",
    )
    parser.add_argument(
        "--timeout_minutes",
        type=cli.number(least=0.1),
        default=60.0,
        help="of each compilation (%(default)g)",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Print each finding as it comes; the status: whether all compiles and fits."""
    topology = Topology.parse(arguments.topology)
    with Compiler(arguments.workers) as compiler:
        # Slow to import, and in vain where the slice or the compiler is not known.
        from preflight import report, report_json, text
        from preflight.rows import Finding, PreflightReport
        from train import config

        experiment = config.parse(arguments.gin_file, arguments.gin_param)
        experiment, info = report.data_of(experiment, arguments.train_images)
        found: list[Finding] = []
        for finding in report.findings(
            experiment,
            info,
            topology,
            compiler,
            largest_batch=arguments.largest_batch,
            tune=arguments.tune,
            reads_data=arguments.train_images is None,
            cpu_ms=arguments.input_cpu_ms,
            timeout_seconds=60 * arguments.timeout_minutes,
        ):
            found.append(finding)
            if (said := text.describe(finding)) and not arguments.json:
                print(said, flush=True)
    whole = PreflightReport.of(found)
    if arguments.json:
        print(json.dumps(report_json.to_json(whole)))
    else:
        print(text.limits(tuned=bool(whole.tuning)))
    return Status.OK if whole.compiles and whole.fits else Status.NO


if __name__ == "__main__":
    sys.exit(main())
