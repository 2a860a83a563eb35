"""What the trainer costs around its step: one line of JSON.

    python -m benchmarks.trainer --data_dir=data/mnist
    python -m benchmarks.trainer --data_dir=data/mnist --before=HEAD~10

Compares images/s of `train_and_evaluate` (records, preprocessing, loop, summaries,
checkpoints; tracing left out) with the bare step, compiled and called over and over on
one batch that is in memory. The bare step is timed before and after, in one process.
So for x-b0, and for the small network of `make train`. Where step and pipeline share
cores, that sets a ceiling, which follows from the CPU seconds of each by itself.

Then come the waits of a short run, each of whole processes: command to first step, the
same behind a kill, last step to end; with --before in two checkouts by turns.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.support import machine, results, run_waits
from common import cli
from common.errors import UserError
from common.project import ROOT

# TensorFlow is imported once the arguments are parsed.
if TYPE_CHECKING:
    from train.experiment import Experiment

_PACKAGES = ("tensorflow", "keras")
_GIN_FILE = "gin_configs/runs/mnist_cpu.gin"
# x-b0 as it is but for the size of its images: 80 steps of 64 of them, and a checkpoint
# as rare as it is in long runs.
X_B0 = (
    "efficientnet_x.build_model.width_coefficient = None",
    "efficientnet_x.build_model.depth_coefficient = None",
    "efficientnet_x.build_model.resolution = 64",
    "experiment.Experiment.global_batch_size = 64",
    "experiment.Experiment.epochs = 1.28",
    "experiment.Experiment.steps_per_loop = 10",
    "experiment.Experiment.checkpoint_every_steps = 1000",
)
_SMALL = ("experiment.Experiment.epochs = 4",)  # that of `make train`
_WARM_UP = 5  # calls that trace, and fill what is made ahead


@dataclasses.dataclass(frozen=True)
class Pace:
    """What something has made of images.

    Attributes:
      images_per_second: by the clock.
      cpu_ms: milliseconds of CPU that an image has taken.
    """

    images_per_second: float
    cpu_ms: float


def parts(experiment: "Experiment", steps: int) -> tuple[Pace, Pace]:
    """Return the pace of the step alone, and of the input pipeline alone."""
    import tensorflow as tf

    from models.input_form import input_form
    from train import datasets, run, state
    from train.trainer import Trainer

    strategy, info = run.prepare(experiment)
    with strategy.scope():
        train_state = state.create(experiment, info)
        form = input_form(train_state.model)
        dataset = datasets.train_dataset(experiment, strategy, form)
        trainer = Trainer(experiment, train_state, strategy)
    iterator = iter(dataset)
    batch = next(iterator)

    @tf.function
    def update() -> None:
        strategy.run(trainer.replica_step, args=(batch,))

    def step() -> None:
        update()
        train_state.step.numpy()  # waits

    size = experiment.global_batch_size
    return _pace(step, steps, size), _pace(lambda: next(iterator), 4 * steps, size)


def _pace(call: Any, calls: int, images: int) -> Pace:
    """Return the pace of calls, each of which makes so many images."""
    for _ in range(_WARM_UP):
        call()
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return Pace(calls * images / seconds, 1e3 * cpu / (calls * images))


def whole_rate(experiment: "Experiment") -> float:
    """Return images/s of a run."""
    from train import run

    with tempfile.TemporaryDirectory() as model_dir:
        summary = run.train_and_evaluate(experiment, model_dir, with_evaluation=False)
    return summary["images_per_second"]


def compare(experiment: "Experiment", steps: int, repeats: int) -> dict[str, Any]:
    """Return what is left of the bare step's images/s in a run, and what may be."""
    rows = []
    for _ in range(repeats):
        before, feed = parts(experiment, steps)
        whole = whole_rate(experiment)
        after, _ = parts(experiment, steps)
        bare = (before.images_per_second + after.images_per_second) / 2
        step_ms = (before.cpu_ms + after.cpu_ms) / 2
        rows.append((whole, bare, step_ms, feed.cpu_ms))
    wholes, bares, step_ms, input_ms = zip(*rows, strict=True)
    ratios = [whole / bare for whole, bare in zip(wholes, bares, strict=True)]
    cores = len(os.sched_getaffinity(0))
    ceilings = [ceiling(bare, cores, step, feed) for _, bare, step, feed in rows]
    return {
        "images_per_second": [round(rate, 1) for rate in wholes],
        "bare_step_images_per_second": [round(rate, 1) for rate in bares],
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "step_cpu_ms_per_image": round(statistics.median(step_ms), 3),
        "input_cpu_ms_per_image": round(statistics.median(input_ms), 3),
        "ceiling": round(statistics.median(ceilings), 3),
    }


def ceiling(bare: float, cores: int, step_ms: float, input_ms: float) -> float:
    """Return the greatest run / bare step that these cores allow.

    Args:
      bare: images/s of the bare step.
      cores: that step and pipeline share.
      step_ms: milliseconds of CPU that an image takes in the step.
      input_ms: the same in the pipeline.
    """
    return min(1.0, 1e3 * cores / (step_ms + input_ms) / bare)


def waits(before: str | None, data_dir: str, repeats: int) -> dict[str, Any]:
    """Return the seconds of each wait, here and in another checkout by turns."""
    if before is None:
        return run_waits.measure([ROOT], data_dir, repeats)
    with run_waits.checkout(before, ROOT) as other:
        return run_waits.measure([ROOT, other], data_dir, repeats)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.trainer", __doc__)
    parser.add_argument(
        "--gin_file",
        type=cli.path,
        default=_GIN_FILE,
        help="(%(default)s)",
    )
    parser.add_argument(
        "--data_dir", type=cli.path, default="data/mnist", help="(%(default)s)"
    )
    parser.add_argument(
        "--gin_param", action="append", default=list(X_B0), help="another setting"
    )
    parser.add_argument(
        "--bare_steps", type=cli.positive, default=20, help="timed (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=cli.positive, default=3, help="of each (%(default)s)"
    )
    parser.add_argument(
        "--before",
        metavar="REVISION",
        help="what the waits are compared with: a revision of git, or the folder of "
        "another checkout",
    )
    parser.add_argument(
        "--only_waits",
        action="store_true",
        help="leave the images/s out; nothing that --output could keep",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    if arguments.only_waits and arguments.output:
        raise UserError("--output keeps a whole report: leave --only_waits out")
    hardware = machine.describe()  # before this benchmark is part of the load
    waited = waits(arguments.before, arguments.data_dir, arguments.repeats)
    rates = {} if arguments.only_waits else _rates(arguments)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    report = {
        "benchmark": "trainer",
        **rates,
        "waits": waited,
        "waits_before": arguments.before,
        "machine": hardware,
        "versions": versions,
        "does_not_show": "accelerators; images of ImageNet's size; many hosts",
    }
    results.publish(report, arguments.output)


def _rates(arguments: argparse.Namespace) -> dict[str, Any]:
    import tensorflow as tf

    from train import config

    data_dir = f"experiment.Experiment.data_dir = {arguments.data_dir!r}"

    def of(gin_file: str, settings: list[str]) -> dict[str, Any]:
        experiment = config.parse([gin_file], [*settings, data_dir])
        return compare(experiment, arguments.bare_steps, arguments.repeats)

    return {
        **of(arguments.gin_file, arguments.gin_param),
        "small": of(_GIN_FILE, list(_SMALL)),
        "gin_file": arguments.gin_file,
        "gin_param": arguments.gin_param,
        "devices": [d.name for d in tf.config.list_logical_devices()],
    }


if __name__ == "__main__":
    sys.exit(main())
