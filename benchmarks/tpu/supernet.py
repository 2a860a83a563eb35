"""What a supernet's train step costs beside that of its largest network: JSON.

    python -m benchmarks.tpu.supernet --output=benchmarks/results/tpu.supernet.json

Of each search: compiles the trainer's own step of its supernet, with the controller,
and of two of its networks built alone, for one device of a TPU, without one; and times
the same steps on this machine's CPU, on images of its own. The networks are the largest
of all sizes and kernels: with every block fused that can be, and with none.

Exit status: 0 every step compiles and fits, 1 one does not, 2 there is no answer.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from benchmarks.support import compiled_steps, machine, results
from common import cli
from common.errors import Status
from tpu_compiler import Compiler, CompilerReport, Topology

# TensorFlow is imported once the arguments are parsed.
if TYPE_CHECKING:
    from search.nas_search import Nas
    from train.experiment import Experiment

SEARCHES = (
    "gin_configs/search/nas_digits.gin",
    "gin_configs/search/nas_imagenet.gin",
)
_SUPERNET = "supernet"
_DOES_NOT_SHOW = (
    "a TPU: cycles are the compiler's estimates; how well the networks are trained"
)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.supernet", __doc__)
    parser.add_argument(
        "--gin_file",
        action="append",
        type=cli.path,
        metavar="FILE",
        help=f"of a search, as search.nas takes it ({' and '.join(SEARCHES)})",
    )
    parser.add_argument(
        "--topology", default="v3", help="one device of it is used (%(default)s)"
    )
    parser.add_argument(
        "--batch", type=cli.positive, default=64, help="images a step (%(default)s)"
    )
    parser.add_argument(
        "--cpu_batch", type=cli.positive, default=8, help="on the CPU (%(default)s)"
    )
    parser.add_argument(
        "--cpu_steps", type=cli.positive, default=5, help="timed (%(default)s)"
    )
    parser.add_argument(
        "--classes", type=cli.positive, default=1000, help="(%(default)s)"
    )
    return parser


def recipe(settings: "Nas", batch: int, precision: str | None = None) -> "Experiment":
    """Return the run of a search's recipe, with batches of a size, and without data."""
    from train import config

    own = [
        "experiment.Experiment.data_dir = 'none'",
        f"experiment.Experiment.global_batch_size = {batch}",
        f"experiment.Experiment.eval_batch_size = {batch}",
        "experiment.Experiment.batch_norm = 'per_replica'",
    ]
    if precision is not None:
        own.append(f"experiment.Experiment.precision = {precision!r}")
    return config.parse(list(settings.gin_files), own)


def _compile(
    forms: Mapping[str, "Experiment"], classes: int, topology: Topology
) -> tuple[dict[str, CompilerReport], dict[str, int]]:
    """Return the compiler's reports and the numbers of parameters by form."""
    with Compiler() as compiler:
        from benchmarks.support import supernet_forms

        futures, parameters = {}, {}
        for name, experiment in forms.items():
            module, parameters[name] = supernet_forms.lower(experiment, classes)
            futures[name] = compiler.compile(
                module, topology, timeout_seconds=3600, name=name
            )
        return {name: one.result() for name, one in futures.items()}, parameters


def compiled_row(report: CompilerReport) -> dict[str, Any]:
    """Return what the compiler says of a step, with the memory of its state."""
    row = compiled_steps.row(report)
    if report.memory is not None:
        row["arguments_mb"] = round(report.memory.arguments / 2**20)
    return row


def ratios(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Return how many times as much the supernet takes as each network."""
    own = numbers.get(_SUPERNET)
    return {
        name: round(own / number, 2)
        for name, number in numbers.items()
        if own and number and name != _SUPERNET
    }


def _on_cpu(
    forms: Mapping[str, "Experiment"], classes: int, steps: int
) -> dict[str, Any]:
    """Return what the steps take on this machine."""
    from benchmarks.support import supernet_forms

    medians = {
        name: statistics.median(
            supernet_forms.seconds_a_step(experiment, classes, steps)
        )
        for name, experiment in forms.items()
    }
    return {
        "seconds_a_step": {name: round(one, 3) for name, one in medians.items()},
        "times_that_of": ratios(medians),
    }


def measure(gin_file: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the row of a search."""
    from benchmarks.support.supernet_forms import forms_of
    from search import config
    from search.nas_search import Nas

    settings = config.read(Nas, [gin_file], [])
    reports, parameters = _compile(
        forms_of(recipe(settings, arguments.batch), settings),
        arguments.classes,
        Topology.parse(arguments.topology),
    )
    # In float32: a CPU computes bfloat16 by way of it.
    small = forms_of(recipe(settings, arguments.cpu_batch, "float32"), settings)
    return {
        "gin_file": gin_file,
        "base": settings.space.base.name,
        "networks": settings.space.count(),
        "parameters": parameters,
        "forms": {name: compiled_row(one) for name, one in reports.items()},
        "times_the_cycles_of": ratios({k: one.cycles for k, one in reports.items()}),
        "cpu": _on_cpu(small, arguments.classes, arguments.cpu_steps),
        "compiler": reports[_SUPERNET].versions,
    }


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Compile and time all forms, and print the line."""
    Topology.parse(arguments.topology)  # a mistake shows at once
    hardware = machine.describe()  # before this benchmark is part of the load
    rows = [measure(one, arguments) for one in arguments.gin_file or SEARCHES]
    report = {
        "benchmark": "tpu.supernet",
        "topology": arguments.topology,
        "batch": arguments.batch,
        "cpu_batch": arguments.cpu_batch,
        "searches": rows,
        "compiler": rows[0]["compiler"],
        "machine": hardware,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    failed = [
        form for row in rows for form in row["forms"].values() if "failed" in form
    ]
    return Status.NO if failed else Status.OK


if __name__ == "__main__":
    sys.exit(main())
