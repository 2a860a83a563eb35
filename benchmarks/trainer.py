"""What the trainer costs around its step: one line of JSON.

    python -m benchmarks.trainer --data_dir=data/mnist

Compares images/s of `train_and_evaluate` (records, preprocessing, loop, summaries,
checkpoints; tracing left out) with the bare step, compiled and called over and over on
one batch that is in memory. The bare step is timed before and after, in one process.
"""

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.support import machine, results, step_timing
from common import cli

# TensorFlow is imported once the arguments are parsed.
if TYPE_CHECKING:
    from train.experiment import Experiment

_PACKAGES = ("tensorflow", "keras")
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


def bare_rate(experiment: "Experiment", steps: int) -> float:
    """Return images/s of the step alone."""
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
    batch = next(iter(dataset))

    @tf.function
    def update() -> None:
        strategy.run(trainer.replica_step, args=(batch,))

    seconds = step_timing.seconds_a_step(update, train_state.step.numpy, steps)
    return experiment.global_batch_size / statistics.mean(seconds)


def whole_rate(experiment: "Experiment") -> float:
    """Return images/s of a run."""
    from train import run

    with tempfile.TemporaryDirectory() as model_dir:
        summary = run.train_and_evaluate(experiment, model_dir, with_evaluation=False)
    return summary["images_per_second"]


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.trainer", __doc__)
    parser.add_argument(
        "--gin_file",
        type=cli.path,
        default="gin_configs/runs/mnist_cpu.gin",
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
        "--repeats", type=cli.positive, default=3, help="of both (%(default)s)"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    import tensorflow as tf

    from train import config

    data_dir = f"experiment.Experiment.data_dir = {arguments.data_dir!r}"
    hardware = machine.describe()  # before this benchmark is part of the load
    experiment = config.parse([arguments.gin_file], [*arguments.gin_param, data_dir])
    pairs = []
    for _ in range(arguments.repeats):
        before = bare_rate(experiment, arguments.bare_steps)
        whole = whole_rate(experiment)
        after = bare_rate(experiment, arguments.bare_steps)
        pairs.append((whole, (before + after) / 2))
    ratios = [whole / bare for whole, bare in pairs]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    report = {
        "benchmark": "trainer",
        "images_per_second": [round(whole, 1) for whole, _ in pairs],
        "bare_step_images_per_second": [round(bare, 1) for _, bare in pairs],
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "gin_file": arguments.gin_file,
        "gin_param": arguments.gin_param,
        "devices": [d.name for d in tf.config.list_logical_devices()],
        "machine": hardware,
        "versions": versions,
        "does_not_show": "accelerators; images of ImageNet's size; many hosts",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
