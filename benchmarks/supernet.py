"""What a supernet's train step costs beside that of its largest network: JSON.

    python -m benchmarks.supernet

Compiles the trainer's own step of a supernet, and of two of its networks built alone,
for one device of a TPU, without one; and times the same steps on this machine's CPU, on
images of its own. The networks are the largest of all sizes and kernels: with every
block fused that can be, and with none. The space is that of the paper, or that of a
config whose network is a supernet:

    python -m benchmarks.supernet --gin_file=gin_configs/search/nas_digits.gin

Exit status: 0 every step compiles and fits, 1 one does not, 2 there is no answer.
"""

import argparse
import functools
import statistics
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from benchmarks.support import machine, results
from common import cli
from common.errors import Status, UserError
from tpu_compiler import Compiler, CompilerReport, Topology

# TensorFlow is imported once the arguments are parsed.
if TYPE_CHECKING:
    from search.networks.space import Space
    from train.experiment import Experiment

_RECIPE = "gin_configs/runs/imagenet_tpu.gin"
_SUPERNET = "supernet"
_DOES_NOT_SHOW = (
    "a TPU: cycles are the compiler's estimates; how well the networks are trained"
)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.supernet", __doc__)
    parser.add_argument(
        "--gin_file",
        action="append",
        type=cli.path,
        metavar="FILE",
        help=f"of a run whose network is a supernet (the paper's space and {_RECIPE})",
    )
    parser.add_argument(
        "--gin_param", action="append", default=[], metavar="SETTING", help="another"
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


def experiment_of(
    gin_files: list[str] | None,
    gin_params: list[str],
    batch: int,
    precision: str | None = None,
) -> tuple["Experiment", "Space"]:
    """Return the run, with batches of a size, and the space of its supernet.

    Raises:
      UserError: its network is no supernet.
    """
    from search import spaces, supernet
    from train import config

    sizes = [
        f"experiment.Experiment.{field} = {batch}"
        for field in ("global_batch_size", "eval_batch_size")
    ]
    own = ["experiment.Experiment.data_dir = 'none'", *sizes]
    if precision is not None:
        own.append(f"experiment.Experiment.precision = {precision!r}")
    found = config.parse(gin_files or [_RECIPE], [*gin_params, *own])
    if not gin_files:
        return found, spaces.paper()
    build = found.build_model
    if not (
        isinstance(build, functools.partial) and build.func is supernet.build_model
    ):
        raise UserError(
            f"{', '.join(gin_files)}: the network is no supernet: bind "
            "Experiment.build_model = @supernet.build_model"
        )
    return found, build.keywords["space"]


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
    """Return what the compiler says of a step."""
    if report.memory is None:
        verdict = "compile" if report.verdict == "refused" else "fit"
        return {"failed": f"it does not {verdict}: {report.message}"}
    return {
        "cycles": report.cycles,
        "milliseconds": report.milliseconds,
        "arguments_mb": round(report.memory.arguments / 2**20),
        "temporaries_mb": round(report.memory.temporaries / 2**20),
    }


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


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Compile and time all forms, and print the line."""
    topology = Topology.parse(arguments.topology)
    hardware = machine.describe()  # before this benchmark is part of the load
    given = arguments.gin_file, arguments.gin_param
    experiment, space = experiment_of(*given, arguments.batch)
    from benchmarks.support.supernet_forms import forms_of

    reports, parameters = _compile(
        forms_of(experiment, space), arguments.classes, topology
    )
    # In float32: a CPU computes bfloat16 by way of it.
    small, _ = experiment_of(*given, arguments.cpu_batch, precision="float32")
    on_cpu = _on_cpu(forms_of(small, space), arguments.classes, arguments.cpu_steps)
    report = {
        "benchmark": "supernet",
        "space": space.name,
        "base": space.base.name,
        "networks": space.count(),
        "parameters": parameters,
        "topology": str(topology),
        "batch": arguments.batch,
        "forms": {name: compiled_row(one) for name, one in reports.items()},
        "times_the_cycles_of": ratios({k: one.cycles for k, one in reports.items()}),
        "cpu": {"batch": arguments.cpu_batch, **on_cpu},
        "compiler": reports[_SUPERNET].versions,
        "machine": hardware,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    compiled = all(one.compiled for one in reports.values())
    return Status.OK if compiled else Status.NO


if __name__ == "__main__":
    sys.exit(main())
