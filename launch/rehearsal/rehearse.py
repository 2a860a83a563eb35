"""The whole story of a rehearsal, top to bottom."""

from collections.abc import Sequence

import tensorflow as tf

from common.console import named, say
from common.errors import UserError
from input_pipeline.dataset_info import load_info
from launch.rehearsal import pipelines, plan, refusals, replication
from launch.rehearsal.pipelines import Pipeline
from launch.rehearsal.plan import Plan
from launch.rehearsal.report import Report
from launch.rehearsal.workers import SliceShape
from train import config, run
from train.checkpoints import directory
from train.config import ResolvedConfig
from train.distribution import strategies
from train.experiment import Experiment

_EXPERIMENT = "experiment.Experiment"


def rehearse(
    gin_files: Sequence[str],
    gin_params: Sequence[str],
    on: SliceShape,
    model_dir: str,
    *,
    steps: int,
    images_per_core: int,
    data_dir: str | None = None,
    shared_paths: Sequence[str] = (),
) -> Report:
    """Run a config as on a slice: `cores.install` was called, TPU_NAME names workers.

    Args:
      gin_files: of the run that is meant.
      gin_params: of it.
      on: the slice.
      model_dir: of the rehearsal's own run.
      steps: of each stage.
      images_per_core: at most, in a micro-batch.
      data_dir: of the data to read in place of the config's.
      shared_paths: folders that every host has, by the user's word.

    Raises:
      UserError: the config or the data are not what `train.main` takes; or the
        folder has checkpoints.
      Restart: SIGTERM has come, or a worker is gone.
    """
    tf.get_logger().setLevel("ERROR")  # it warns of a TPU that is initialized twice
    if directory.has_begun(model_dir):  # what it has done would not be rehearsed
        raise UserError(
            f"{model_dir} has checkpoints already: name a new folder as --model_dir, "
            "or none"
        )
    report = Report(on, tf.version.VERSION)
    meant = config.parse(gin_files, gin_params)
    report.refused += refusals.local_data(meant, on, shared_paths)
    report.refused += refusals.not_divided(meant, on)
    report.notes += refusals.without_groups(meant, on)

    # First: TensorFlow has connecting throw away what was made before it.
    strategy = strategies.make_strategy("tpu")

    # What is run in place of it.
    if data_dir is not None:
        gin_params = [*gin_params, f"{_EXPERIMENT}.data_dir = {data_dir!r}"]
    info = load_info(config.parse(gin_files, gin_params).data_dir)
    planned = plan.make(meant, info, on, steps=steps, images_per_core=images_per_core)
    short = config.resolve(gin_files, [*gin_params, *planned.bindings])

    # What feeds it.
    pipes = pipelines.find(short.experiment, info, on)
    python = [line for pipe in pipes for line in refusals.python_in(pipe)]
    report.refused += python
    known = [short.experiment.data_dir, *shared_paths]
    for pipe in pipes:
        report.refused += refusals.local_files(pipe, known)
        report.notes += refusals.copied_state(pipe)
    if python or not _compare(pipes, strategy, report):
        return report

    _train(short, planned, meant, model_dir, report)
    report.refused += refusals.without_kernel(replication.programs)
    report.rehearsed["programs"] = _programs()
    return report


def _compare(
    pipes: Sequence[Pipeline], strategy: tf.distribute.Strategy, report: Report
) -> bool:
    """Set the workers' input beside that made here; return whether it is the same."""
    say("comparing the input pipelines", stays=False)
    differences = [
        line for pipe in pipes for line in pipelines.differences(pipe, strategy)
    ]
    report.refused += differences
    report.rehearsed["input"] = (
        f"{named((pipe.name for pipe in pipes), 9)}, a pipeline on each host; "
        f"{pipelines.BATCHES} batches of each core "
        + ("are NOT those" if differences else "equal those")
        + " that are made here, bit for bit"
    )
    return not differences


def _train(
    short: ResolvedConfig,
    planned: Plan,
    meant: Experiment,
    model_dir: str,
    report: Report,
) -> None:
    say(
        f"the trainer, for {planned.steps * planned.stages} steps; what it says of "
        "short runs is the rehearsal's"
    )
    summary = run.train_and_evaluate(short.experiment, model_dir, config=short)
    size = short.experiment.global_batch_size
    stages = f" in each of {planned.stages} stages" if planned.stages > 1 else ""
    report.rehearsed["training"] = (
        f"{planned.steps} steps{stages}, {planned.steps_per_loop} a loop, of {size:,} "
        f"images (meant: {meant.global_batch_size:,}); "
        f"checkpoints up to ckpt-{summary['steps']}"
    )
    report.rehearsed["evaluation"] = (
        f"{summary['eval_images']:,} images, {summary['eval_split']}"
    )


def _programs() -> str:
    found = replication.programs
    operations = sum(sum(program.ops.values()) for program in found)
    kinds = set().union(*(program.ops for program in found))
    return f"{len(found)}, of {operations:,} operations of {len(kinds)} kinds"
