"""Compiles a run's steps for a TPU slice, without one: do they compile, do they fit?

python -m train.preflight --gin_file=gin_configs/models/efficientnet_x_b0.gin \
  --gin_file=gin_configs/runs/imagenet_tpu.gin --topology=v3:4x4 \
  --gin_param="experiment.Experiment.data_dir = 'gs://bucket/imagenet'"

The compiler is that of TPUs; `make tpu-compiler` installs it. A step takes it minutes,
and the second time only as long as TensorFlow traces it. The exit status is 0 when
everything compiles and fits, 1 when something does not or a setting is wrong.
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import keras
from absl import app, flags, logging

from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo, load_info
from models import complexity
from models.rewrites import input_form
from models.transfer import is_ours
from tpu_compiler import Compiler, Topology
from train import config, errors, feeding, preflight_text
from train.experiment import Experiment
from train.judge import Judge, Step
from train.progress import say


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
    when_built: Callable[[], None] = lambda: None,
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
      when_built: called before anything is compiled, once the model and all data are
        there; not where the data is not read, or a fleet reads it. What it raises ends
        the preflight.

    Raises:
      UserError, models.variants.ModelError, input_pipeline.errors.DataError: as
        `train.main` would.
      tpu_compiler.CompilerError: the compiler does not answer.
    """
    judge = Judge(experiment, info, topology, compiler, timeout_seconds=timeout_seconds)
    by_fleet = config.setting(experiment.train_data, "service") is not None
    if reads_data:
        # First: what is wrong with the data, a compilation need not wait for.
        if not by_fleet:
            judge.open_data()
            when_built()
        if cpu_ms is None:
            say("measuring the input pipeline", stays=False)
            form = input_form(judge.programs.model)
            cpu_ms = feeding.cpu_ms_per_image(experiment, form)
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
    report |= feeding.verdict(
        report["peak_images_per_second"], topology, cpu_ms, by_fleet=by_fleet
    )
    return report | {
        "unanswered": judge.unanswered,
        "covers": preflight_text.COVERS,
        "leaves_out": preflight_text.LEAVES_OUT,
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
        "without_estimate": report.costs.uncosted,
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
    if is_ours(model):
        macs = complexity.of_model(model, step.program.resolution).macs
        flops = 2 * passes(step, model) * macs * step.program.images
        floors["compute"] = 1e3 * flops / generation.peak_flops
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


FLAGS = flags.FLAGS
flags.DEFINE_multi_string("gin_file", [], "A .gin file; later ones win.")
flags.DEFINE_multi_string("gin_param", [], "A binding such as 'a.b = 1'; it wins.")
flags.DEFINE_string("topology", None, "The slice, as v3:4x4, v4:2x2x1 or v5e:4x4.")
flags.DEFINE_boolean("json", False, "Print one JSON object instead of text.")
flags.DEFINE_boolean("search", True, "Look for the largest batch that fits.")
flags.DEFINE_integer(
    "train_images",
    None,
    "Images of the training split, where the data is out of reach.",
    lower_bound=1,
)
flags.DEFINE_float(
    "input_cpu_ms",
    None,
    "What an image costs a core of a host, by benchmarks.input there; by default it is "
    "measured here, where the data can be read.",
    lower_bound=1e-6,
)
flags.DEFINE_integer("workers", 2, "Compilations at the same time.", lower_bound=1)
flags.DEFINE_float("timeout_minutes", 60.0, "Of each compilation.", lower_bound=0.1)
flags.mark_flag_as_required("topology")


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are flags")
    logging.set_verbosity(logging.WARNING)
    with errors.reported(), Compiler(FLAGS.workers) as compiler:
        topology = Topology.parse(FLAGS.topology)
        experiment = config.parse(FLAGS.gin_file, FLAGS.gin_param)
        experiment, info = data_of(experiment, FLAGS.train_images)
        report = preflight(
            experiment,
            info,
            topology,
            compiler,
            search=FLAGS.search,
            reads_data=FLAGS.train_images is None,
            cpu_ms=FLAGS.input_cpu_ms,
            timeout_seconds=60 * FLAGS.timeout_minutes,
            when_built=lambda: config.check_effect(FLAGS.gin_param),
        )
    print(json.dumps(report) if FLAGS.json else preflight_text.describe(report))
    sys.exit(0 if report["compiles"] and report["fits"] else 1)


if __name__ == "__main__":
    app.run(main)
