"""What exact rewrites save in the train step, by the TPU's compiler: a line of JSON.

    python -m benchmarks.tpu.step

Compiles the trainer's own step for one device of a TPU, without one, in several forms
of the same network: with Keras' batch norm and the plain stem, with ours, and with the
stem on patches that the host has made. Cycles are the compiler's estimates; no TPU is
run. Ratios of forms of one network are what they are good for.

Keras' batch norm has two forms, whose variance is the mean of (x - mean)^2. TensorFlow
stops the gradient of that at the mean (tf.nn.moments), which makes keras_batch_norm
cheaper; on Keras' JAX backend it goes on through the mean, where it adds up to zero in
one more reading of the activations: keras_jax_batch_norm.

Exit status: 0 every form compiles and fits, 1 one does not, 2 there is no answer.
"""

import argparse
import sys
from collections.abc import Mapping
from importlib import metadata

from benchmarks.support import compiled_steps, machine, results
from common import cli
from common.errors import Status
from common.project import ROOT
from tpu_compiler import Compiler, CompilerReport, Topology

_MODELS = ROOT / "gin_configs/models"


def _compile(model: str, batch: int, topology: Topology) -> dict[str, CompilerReport]:
    """Return the compiler's reports by form."""
    with Compiler() as compiler:
        from benchmarks.support import step_forms  # slow, and in vain without one

        futures = {
            form: compiler.compile(
                step_forms.lower(model, batch, form),
                topology,
                timeout_seconds=3600,
                name=form,
            )
            for form in step_forms.FORMS
        }
        return {form: future.result() for form, future in futures.items()}


def _savings(reports: Mapping[str, CompilerReport]) -> dict[str, dict[str, float]]:
    """Return which share of the cycles of Keras' forms the other forms save."""
    cycles = {form: one.cycles for form, one in reports.items() if one.cycles}
    return {
        base: {form: round(1 - cycles[form] / cycles[base], 3) for form in cycles}
        for base in cycles
        if base.startswith("keras_")
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.step", __doc__)
    parser.add_argument(
        "--model",
        default="efficientnet_x_b0",
        choices=sorted(path.stem for path in _MODELS.glob("*.gin")),
        metavar="MODEL",
        help="its file in gin_configs/models (%(default)s)",
    )
    parser.add_argument(
        "--topology", default="v3", help="one device of it is used (%(default)s)"
    )
    parser.add_argument(
        "--batch", type=cli.positive, default=64, help="images a step (%(default)s)"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Compile all forms, and print the line."""
    topology = Topology.parse(arguments.topology)
    hardware = machine.describe()  # before this benchmark is part of the load
    reports = _compile(arguments.model, arguments.batch, topology)
    report = {
        "benchmark": "tpu.step",
        "model": arguments.model,
        "topology": str(topology),
        "batch": arguments.batch,
        "forms": {form: compiled_steps.row(one) for form, one in reports.items()},
        "fewer_cycles_than": _savings(reports),
        "compiler": reports["as_written"].versions,
        "machine": hardware,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": "a TPU: cycles are the compiler's estimates; the host's work "
        "for the patches",
    }
    results.publish(report, arguments.output)
    compiled = all(one.compiled for one in reports.values())
    return Status.OK if compiled else Status.NO


if __name__ == "__main__":
    sys.exit(main())
