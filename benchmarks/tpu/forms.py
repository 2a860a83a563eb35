"""The fastest exact forms of networks on generations of TPUs: a line of JSON.

    python -m benchmarks.tpu.forms --models=efficientnet_x_b0 --topologies=v3,v5e

Does for each network and generation what `python -m preflight --tune` does for a run on
one device: the train step and the inference as written, in other forms of the same
numbers, and which is fastest. A train step of B0 takes a core minutes to compile, one
of B3 several times as long. What was compiled is kept, so a run that was ended goes on
where it was, and the second time takes a minute or two. With --add the rows that the
file has already stay, unless they are asked for again.

The exit status is 0 when all that was asked for compiles and fits, 1 when not.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.errors import Status, UserError
from tpu_compiler import Compiler, Topology, environment

MODELS = "efficientnet_x_b0", "efficientnet_x_b3", "efficientnet_x_tpu_b3"
TOPOLOGIES = "v3", "v4", "v5e", "v6e"
_TIMEOUT_SECONDS = 2 * 3600.0
DOES_NOT_SHOW = (
    "a TPU: milliseconds are sums of the compiler's cycle estimates; what the host "
    "does to move pixels"
)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.forms", __doc__)
    add = functools.partial(parser.add_argument, type=cli.names, metavar="NAMES")
    add(
        "--models",
        default=list(MODELS),
        help=f"files in gin_configs/models; default: {','.join(MODELS)}",
    )
    add(
        "--training_of",
        help="those of them whose train step is compiled, too; default: all",
    )
    add(
        "--topologies",
        default=list(TOPOLOGIES),
        help=f"one device of each is used; default: {','.join(TOPOLOGIES)}",
    )
    parser.add_argument(
        "--batch", type=cli.positive, default=64, help="images a step (%(default)s)"
    )
    parser.add_argument(
        "--add", action="store_true", help="to the rows of the file that --output names"
    )
    parser.add_argument(
        "--workers", type=cli.positive, default=1, help="compilations at once"
    )
    return parser


def _row(
    model: str, batch: int, topology: Topology, compiler: Compiler, *, trains: bool
) -> dict[str, Any]:
    """Return what the compiler says of a network's forms on one device."""
    from preflight import tuning_text

    tuner, training = _tuner(model, batch, topology, compiler, trains=trains)
    found = list(tuner.skipped())
    if training is not None:
        found += tuner.train_forms([training])
    found += tuner.inference_forms()
    said = tuning_text.to_json(found)
    kept = ("skipped", "compiled", "train_step", "inference")
    return {
        "model": model,
        "topology": str(topology),
        **{name: said[name] for name in kept},
        "train_step_compiled": trains,
    }


def _tuner(
    model: str, batch: int, topology: Topology, compiler: Compiler, *, trains: bool
) -> tuple[Any, Any]:
    """Return what looks for forms, and the train step as written if it is asked for."""
    from benchmarks.support import step_forms
    from preflight.lowered_steps import LoweredSteps
    from preflight.rows import Problem, StepReport
    from preflight.tuning import Tuner
    from train.stage_rows import BASE_STAGE

    experiment, info = step_forms.recipe(model, batch), step_forms.IMAGENET
    tuner = Tuner(
        *(experiment, info, topology, compiler, experiment.stages(info)),
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if not trains:
        return tuner, None
    lowered = LoweredSteps(experiment, info, 1).train_step()
    answer = compiler.compile(
        lowered.stablehlo, topology, timeout_seconds=_TIMEOUT_SECONDS, name=model
    ).result()
    step = StepReport(
        name="train step",
        stage=BASE_STAGE,
        lowered=lowered,
        compilation=answer,
        problem=None if answer.compiled else Problem(message=answer.message),
    )
    return tuner, step


def _rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each network and generation, as soon as it is known."""
    training_of = arguments.training_of or arguments.models
    with Compiler(arguments.workers) as compiler:
        for model in arguments.models:
            for name in arguments.topologies:
                yield _row(
                    *(model, arguments.batch, Topology.parse(name).one_device),
                    compiler,
                    trains=model in training_of,
                )


def _known_rows(
    arguments: argparse.Namespace, conditions: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of the file by network and generation.

    Args:
      arguments: of the command.
      conditions: under which rows would be added.

    Raises:
      UserError: there is no such file, or its rows are of other conditions.
    """
    if arguments.output is None:
        raise UserError("--add needs the file: name it by --output")
    known = results.load(Path(arguments.output), "tpu.forms")
    for name, now in conditions.items():
        if known[name] != now:
            raise UserError(
                f"{arguments.output} is of {name} {known[name]}, this would be of "
                f"{now}: leave out --add, and compile all rows"
            )
    return {(row["model"], row["topology"]): row for row in known["rows"]}


def _fits(row: dict[str, Any]) -> bool:
    """Whether all of it compiles and fits as written."""
    asked = [row["inference"], *([row["train_step"]] * row["train_step_compiled"])]
    return all(one is not None and one["as_written_ms"] is not None for one in asked)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Compile all, and print the line; the file holds what is known so far."""
    hardware = machine.describe()  # before this benchmark is part of the load
    conditions = {
        "batch": arguments.batch,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
    }
    rows = _known_rows(arguments, conditions) if arguments.add else {}
    report = {
        "benchmark": "tpu.forms",
        "batch": arguments.batch,
        "rows": list(rows.values()),
        "compiler": conditions["compiler"],
        "machine": hardware,
        "versions": conditions["versions"],
        "does_not_show": DOES_NOT_SHOW,
    }
    made = []
    for row in _rows(arguments):
        made.append(row)
        rows[row["model"], row["topology"]] = row
        report["rows"] = list(rows.values())
        if arguments.output is not None:
            results.keep(report, arguments.output)
    results.publish(report, arguments.output)
    return Status.OK if all(map(_fits, made)) else Status.NO


if __name__ == "__main__":
    sys.exit(main())
