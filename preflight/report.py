"""What is known of a run on a TPU slice before its launch."""

import dataclasses
import itertools
import operator
import sys
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from common.console import say, take_back_live_line
from common.errors import UserError, first_line
from input_pipeline.dataset_info import DatasetInfo, SplitInfo, load_info
from input_pipeline.errors import DataError
from input_pipeline.records import ShardInfo
from models.input_form import InputForm, input_form
from preflight import host_input
from preflight.outlook import HostInput, Outlook, Schedule
from preflight.rows import Finding, RunOnSlice, StepReport
from preflight.steps import StepAnalyser
from preflight.tuning import Tuner
from tpu_compiler import Compiler, Topology
from train import datasets
from train.experiment import Experiment
from train.stage_rows import Stage
from train.start import counts
from train.weights import pretrained


def findings(
    experiment: Experiment,
    info: DatasetInfo,
    topology: Topology,
    compiler: Compiler,
    *,
    largest_batch: bool = True,
    tune: bool = False,
    reads_data: bool = True,
    cpu_ms: float | None = None,
    timeout_seconds: float = 3600.0,
) -> Iterator[Finding]:
    """Yield what is known of a run on a slice before its launch, as soon as it is.

    The run itself, the update of every stage, the outlook that they give, the
    evaluation's step, the network's forms and the largest batch.

    Args:
      experiment: the recipe; its strategy does not matter.
      info: of its data.
      topology: the slice.
      compiler: of TPUs.
      largest_batch: whether to look for it, by more compilations.
      tune: whether to look for the network's fastest form, by more of them.
      reads_data: whether to open the data and the weights that the run starts from, and
        to measure what an image costs here.
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
    counts.refuse(experiment, info, model.output_shape[-1])
    if reads_data:  # what is wrong with the data, a compilation need not wait for
        if experiment.pretrained is not None:
            pretrained.load_into(experiment, model)
        _open_data(experiment, info, form)
    stages = [stage.program for stage in analyser.stages.values()]
    costs: Mapping[Stage, float] = {}
    if cpu_ms is not None:
        costs = dict.fromkeys(stages, cpu_ms)
    elif reads_data:
        say("measuring the input pipeline", stays=False)
        costs = host_input.costs_of_stages(experiment, stages, model)
        take_back_live_line()
    yield RunOnSlice(
        variant=model.name,
        resolution=form.resolution,
        precision=experiment.precision,
        topology=topology,
        global_batch_size=experiment.global_batch_size,
        compiler_versions=compiler.versions,
    )
    requests = analyser.request_steps()
    training = []
    for step in analyser.training_steps(requests):
        training.append(step)
        yield step
    schedule = schedule_of(experiment, analyser.stages, training)
    yield Outlook(schedule, hardest_input(experiment, topology, training, costs))
    yield analyser.evaluation_step(requests, training)
    if tune:
        tuner = Tuner(
            *(experiment, info, topology, compiler, analyser.stages),
            timeout_seconds=timeout_seconds,
        )
        yield from tuner.findings(training, other_batches=largest_batch)
    worst = max(training, key=lambda step: step.needed_bytes or sys.maxsize)
    if largest_batch and worst.compiles:
        yield analyser.largest_batch(worst)


def _open_data(experiment: Experiment, info: DatasetInfo, form: InputForm) -> None:
    if not _by_data_service(experiment):
        strategy = tf.distribute.get_strategy()
        datasets.train_dataset(experiment, strategy, form)
        datasets.eval_dataset(experiment, info, strategy, form)


def hardest_input(
    experiment: Experiment,
    topology: Topology,
    training: Sequence[StepReport],
    costs: Mapping[Stage, float],
) -> HostInput:
    """Return what the hosts are asked for where that needs most of their cores.

    Args:
      experiment: the recipe.
      topology: the slice.
      training: the train steps, one of each different stage.
      costs: milliseconds of a core for an image of each stage; empty is unknown.
    """
    images = experiment.global_batch_size * 1e3
    asked = [
        HostInput(
            topology,
            images / step.milliseconds if step.milliseconds else None,
            costs.get(step.stage) if step.stage else None,
            _by_data_service(experiment),
        )
        for step in training
    ]
    unknown = [one for one in asked if one.demand is None]
    return max(unknown or asked, key=lambda one: one.cores_needed or one.demand or 0)


def _by_data_service(experiment: Experiment) -> bool:
    return datasets.data_setting(experiment, "service") is not None


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
    by_stage = {step.stage: step for step in training}
    steps = [by_stage[stage.program] for stage in stages.values()]
    lengths = [end - before for before, end in itertools.pairwise((0, *stages))]
    times = [step.milliseconds for step in steps]
    step_ms = _average(times, lengths)
    if step_ms is None:
        return known
    images_a_second = experiment.global_batch_size * 1e3
    return dataclasses.replace(
        known,
        step_ms=step_ms,
        images_per_second=images_a_second / step_ms,
        peak_images_per_second=images_a_second / min(filter(None, times)),
        hours=known.train_steps * step_ms / 3.6e6,
        all_reduce_ms=_average([step.all_reduce_ms for step in steps], lengths),
    )


def _average(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return their average; None where one is not known."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(map(operator.mul, known, weights)) / sum(weights)


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
    if experiment.counts_classes:
        raise UserError(
            "num_classes = None is as many as the data have classes, and the data are "
            f"out of reach: say how many, as by --gin_param='{_of(experiment)} = 1000'"
        )
    split = SplitInfo((ShardInfo("train", train_images, ()),))
    info = DatasetInfo("unknown", 0, (), {"train": split, "validation": split})
    whole = {"train_split": "train", "eval_split": "validation"}
    return dataclasses.replace(experiment, **whole), info


def _of(experiment: Experiment) -> str:
    """Return the setting of the number of classes, as gin writes it."""
    build = getattr(experiment.build_model, "func", experiment.build_model)
    return f"{build.__module__.rpartition('.')[2]}.{build.__name__}.num_classes"
