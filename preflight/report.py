"""What is known of a run on a TPU slice before its launch."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import tensorflow as tf

from common.console import say
from common.errors import UserError, first_line
from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo, load_info
from models.input_form import input_form
from preflight import host_input
from preflight.host_input import HostInput
from preflight.step_report import StepReport
from preflight.steps import LargestBatch, StepAnalyser
from tpu_compiler import Compiler, Topology
from train import datasets
from train.experiment import Experiment
from train.stage_rows import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A whole run by the estimates of its stages.

    Attributes:
      train_steps: of the run.
      epochs: of the run.
      step_ms: on average; as what follows, None where the compiler has no estimate of
        a stage.
      images_per_second: of the slice, on average.
      peak_images_per_second: of the slice, in its fastest stage.
      hours: of all train steps.
    """

    train_steps: int
    epochs: float
    step_ms: float | None = None
    images_per_second: float | None = None
    peak_images_per_second: float | None = None
    hours: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreflightReport:
    """What is known of a run on a slice before its launch.

    Attributes:
      variant: the model's name.
      resolution: of its images in pixels.
      precision: see `Experiment`.
      topology: the slice.
      global_batch_size: see `Experiment`.
      steps: the update of every stage, and the evaluation's step, which is the last.
      largest_batch: None where it was not looked for.
      schedule: of the run.
      host_input: what its hosts are asked for.
    """

    variant: str
    resolution: int
    precision: str
    topology: Topology
    global_batch_size: int
    steps: Sequence[StepReport]
    largest_batch: LargestBatch | None
    schedule: Schedule
    host_input: HostInput

    @property
    def compiles(self) -> bool:
        """Whether all steps do."""
        return all(step.compiles for step in self.steps)

    @property
    def fits(self) -> bool:
        """Whether all steps do."""
        return all(step.fits for step in self.steps)

    @property
    def hbm_bytes(self) -> int | None:
        """Of a device, by the step that needs the most; None if none compiles."""
        return max(step.needed_bytes or 0 for step in self.steps) or None

    @property
    def hbm_limit_bytes(self) -> int:
        """Of a device, as much as a program may use."""
        return self.topology.generation.hbm_bytes

    @property
    def replicas(self) -> int:
        """Of the slice: its devices."""
        return self.topology.num_devices

    @property
    def all_reduces(self) -> int:
        """Of the train step that has the most."""
        return max(step.all_reduces for step in self.steps if step.stage is not None)

    @property
    def compiler_versions(self) -> dict[str, str]:
        """Of the compiler's packages; empty where it was not asked for anything."""
        asked = (step.compilation for step in self.steps if step.compilation)
        return next((compilation.versions for compilation in asked), {})


def preflight(
    experiment: Experiment,
    info: DatasetInfo,
    topology: Topology,
    compiler: Compiler,
    *,
    search: bool = True,
    reads_data: bool = True,
    cpu_ms: float | None = None,
    timeout_seconds: float = 3600.0,
) -> PreflightReport:
    """Return what is known of a run on a slice before its launch.

    Args:
      experiment: the recipe; its strategy does not matter.
      info: of its data.
      topology: the slice.
      compiler: of TPUs.
      search: whether to look for the largest batch that fits, by more compilations.
      reads_data: whether to open the data, and to measure what an image costs here.
      cpu_ms: what it costs a core of a host, where that is known.
      timeout_seconds: of each compilation.

    Raises:
      UserError, models.errors.ModelError, input_pipeline.errors.DataError: as
        `train.main` would.
      tpu_compiler.CompilerError: the compiler does not answer.
    """
    analyser = StepAnalyser(
        experiment, info, topology, compiler, timeout_seconds=timeout_seconds
    )
    model, form = analyser.model, input_form(analyser.model)
    by_data_service = datasets.data_setting(experiment, "service") is not None
    if reads_data:
        # First: what is wrong with the data, a compilation need not wait for.
        if not by_data_service:
            strategy = tf.distribute.get_strategy()
            datasets.train_dataset(experiment, strategy, form)
            datasets.eval_dataset(experiment, info, strategy, form)
        if cpu_ms is None:
            say("measuring the input pipeline", stays=False)
            cpu_ms = host_input.cpu_ms_per_image(experiment, form)
    steps = analyser.analyse_steps()
    training = [step for step in steps if step.stage is not None]
    worst = max(training, key=lambda step: step.needed_bytes or sys.maxsize)
    schedule = schedule_of(experiment, analyser.stages, training)
    return PreflightReport(
        variant=model.name,
        resolution=form.resolution,
        precision=experiment.precision,
        topology=topology,
        global_batch_size=experiment.global_batch_size,
        steps=steps,
        largest_batch=(
            analyser.largest_batch(worst) if search and worst.compiles else None
        ),
        schedule=schedule,
        host_input=HostInput(
            topology, schedule.peak_images_per_second, cpu_ms, by_data_service
        ),
    )


def schedule_of(
    experiment: Experiment, stages: Mapping[int, Stage], training: Sequence[StepReport]
) -> Schedule:
    """Return the time of the whole run, by the estimates of its stages.

    Args:
      experiment: the recipe.
      stages: of the run, by the step that ends each.
      training: the train steps, one of each different stage.
    """
    known = Schedule(train_steps=max(stages), epochs=experiment.epochs)
    milliseconds = {step.stage: step.milliseconds for step in training}
    total, before, each = 0.0, 0, []
    for end, stage in stages.items():
        step_ms = milliseconds[stage]
        if step_ms is None:
            return known
        each.append(step_ms)
        total += (end - before) * step_ms
        before = end
    images_a_second = experiment.global_batch_size * 1e3
    return dataclasses.replace(
        known,
        step_ms=total / before,
        images_per_second=images_a_second / (total / before),
        peak_images_per_second=images_a_second / min(each),
        hours=total / 3.6e6,
    )


def data_of(
    experiment: Experiment, train_images: int | None
) -> tuple[Experiment, DatasetInfo]:
    """Return the recipe and its data, or data of as many images as are named."""
    if train_images is None:
        try:
            return experiment, load_info(experiment.data_dir)
        except DataError as error:
            raise UserError(
                f"{first_line(error)}; where the data is out of reach, name how many "
                "images there are: --train_images=1281167"
            ) from error
    split = SplitInfo((ShardInfo("train", train_images, ()),))
    info = DatasetInfo("unknown", 0, (), {"train": split, "validation": split})
    whole = {"train_split": "train", "eval_split": "validation"}
    return dataclasses.replace(experiment, **whole), info
