"""What is known of a run on a TPU slice before its launch."""

import dataclasses
import sys
from typing import Any

import keras

from common import errors
from common.console import say
from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo, load_info
from models import complexity
from models.input_form import input_form
from models.parts import built_by_us
from preflight import host_input, text
from preflight.steps import Judge, Step
from tpu_compiler import Compiler, Topology
from train.datasets import data_setting
from train.experiment import Experiment


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
) -> dict[str, Any]:
    """Returns what is known of a run on a slice before its launch.

    Args:
      experiment: the recipe; its strategy does not matter.
      info: of its data.
      topology: the slice.
      compiler: of TPUs.
      search: whether to look for the largest batch that fits, by more compilations.
      reads_data: whether to measure what an image costs here.
      cpu_ms: what it costs a core of a host, where that is known.
      timeout_seconds: of each compilation.

    Raises:
      UserError, models.errors.ModelError, input_pipeline.errors.DataError: as
        `train.main` would.
      tpu_compiler.CompilerError: the compiler does not answer.
    """
    judge = Judge(experiment, info, topology, compiler, timeout_seconds=timeout_seconds)
    by_fleet = data_setting(experiment, "service") is not None
    if reads_data:
        # First: what is wrong with the data, a compilation need not wait for.
        if not by_fleet:
            judge.open_data()
        if cpu_ms is None:
            say("measuring the input pipeline", stays=False)
            form = input_form(judge.programs.model)
            cpu_ms = host_input.cpu_ms_per_image(experiment, form)
    steps = judge.steps()
    training = [step for step in steps if step.stage is not None]
    worst = max(training, key=lambda step: step.needed_bytes or sys.maxsize)
    report: dict[str, Any] = {
        "variant": judge.programs.model.name,
        "resolution": input_form(judge.programs.model).resolution,
        "precision": experiment.precision,
        "topology": str(topology),
        "chips": topology.num_chips,
        "replicas": topology.num_devices,
        "global_batch_size": experiment.global_batch_size,
        "compiles": all(step.compiles for step in steps),
        "fits": all(step.fits for step in steps),
        "hbm_bytes": max(step.needed_bytes or 0 for step in steps) or None,
        "hbm_limit_bytes": topology.generation.hbm_bytes,
        "largest_global_batch_size": None,
        "steps": [_of_step(step, judge) for step in steps],
    }
    if search and worst.compiles:
        report["largest_global_batch_size"] = judge.largest_batch(worst)
    report |= schedule(judge, training)
    report |= host_input.verdict(
        report["peak_images_per_second"], topology, cpu_ms, by_fleet=by_fleet
    )
    return report | {
        "unanswered": judge.unanswered,
        "covers": text.COVERS,
        "leaves_out": text.LEAVES_OUT,
        "compiler": next((s.report.versions for s in steps if s.report), {}),
    }


def _of_step(step: Step, judge: Judge) -> dict[str, Any]:
    """Returns what is known of one program."""
    found: dict[str, Any] = {
        "name": step.name,
        "compiles": step.compiles,
        "fits": step.fits,
        "problem": step.problem,
    }
    if step.program is not None:
        found |= {
            "resolution": step.program.resolution,
            "images_per_replica": step.program.images,
        }
    if step.report is None:
        return found
    report = step.report
    found |= {
        "hbm_bytes": step.needed_bytes,
        "hbm_bytes_beside": step.beside,
        "compile_seconds": round(report.seconds, 1),
    }
    if report.memory is None or report.costs is None:
        return found
    return found | {
        "hbm_bytes_by_kind": dataclasses.asdict(report.memory),
        "estimated_step_ms": report.milliseconds,
        **_floors(step, judge),
        "all_reduces": step.all_reduces,
        "collectives": [dataclasses.asdict(one) for one in report.collectives],
        "without_estimate": report.costs.without_estimate,
        "dynamic_shapes": [
            {"op": one.op, "shape": one.shape, **judge.place(one.location)}
            for one in report.dynamic
        ],
        "loops_of_unknown_length": list(report.costs.unknown_loops),
        "costliest": [
            {"op": one.opcode, "layer": one.op_name, "cycles": one.total_cycles}
            for one in report.costliest(10)
        ],
        "hlo": str(report.hlo_path),
    }


def _floors(step: Step, judge: Judge) -> dict[str, Any]:
    """Returns the least time that a step could take, by arithmetic and by memory."""
    assert step.program is not None
    assert step.report is not None
    assert step.report.costs is not None
    generation, model = judge.topology.generation, judge.programs.model
    memory = step.report.costs.hbm_bytes / generation.hbm_bytes_per_second
    floors = {"memory": 1e3 * memory}
    if built_by_us(model):
        macs = complexity.of_model(model, step.program.resolution).macs
        flops = 2 * passes(step, model) * macs * step.program.images
        floors["compute"] = 1e3 * flops / generation.peak_flops["bfloat16"]
    return {
        "floors_ms": floors,
        "bound": max(floors, key=lambda name: floors[name]),
    }


def passes(step: Step, model: keras.Model) -> int:
    """Returns how often a step does the arithmetic of a forward pass, at least."""
    if step.stage is None:
        return 2  # it scores raw and averaged weights
    # A backward pass is two products for each of the forward pass; of parts that are
    # frozen it may have none.
    frozen = any(
        not layer.trainable and layer.weights
        for layer in model._flatten_layers(include_self=False)
    )
    return 1 if frozen else 3


def schedule(judge: Judge, training: list[Step]) -> dict[str, Any]:
    """Returns the time of the whole run, by the estimates of its stages."""
    experiment, answers = judge.experiment, {step.stage: step for step in training}
    known: dict[str, Any] = {
        "train_steps": max(judge.stages),
        "epochs": experiment.epochs,
        "all_reduces": max(step.all_reduces for step in training),
    }
    times = ("estimated_step_ms", "images_per_second", "peak_images_per_second")
    total, before, each = 0.0, 0, []
    for end, stage in judge.stages.items():
        report = answers[stage].report
        if report is None or report.milliseconds is None:
            return known | dict.fromkeys((*times, "hours"))
        each.append(report.milliseconds)
        total += (end - before) * report.milliseconds
        before = end
    step_ms = total / before
    a_second = experiment.global_batch_size * 1e3
    rates = step_ms, a_second / step_ms, a_second / min(each)
    return known | dict(zip(times, rates, strict=True)) | {"hours": total / 3.6e6}


def data_of(
    experiment: Experiment, train_images: int | None
) -> tuple[Experiment, DatasetInfo]:
    """Returns the recipe and its data, or data of as many images as are named."""
    if train_images is None:
        try:
            return experiment, load_info(experiment.data_dir)
        except DataError as error:
            raise errors.UserError(
                f"{str(error).splitlines()[0]}; where the data is out of reach, name "
                "how many images there are: --train_images=1281167"
            ) from error
    split = SplitInfo((ShardInfo("train", train_images, ()),))
    info = DatasetInfo("unknown", 0, (), {"train": split, "validation": split})
    whole = {"train_split": "train", "eval_split": "validation"}
    return dataclasses.replace(experiment, **whole), info
