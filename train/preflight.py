"""Compiles a run's steps for a TPU slice, without one: do they compile, do they fit?

python -m train.preflight --gin_file=gin_configs/models/efficientnet_x_b0.gin \
  --gin_file=gin_configs/runs/imagenet_tpu.gin --topology=v3:4x4 \
  --gin_param="experiment.Experiment.data_dir = 'gs://bucket/imagenet'"

The compiler is that of TPUs; `make tpu-compiler` installs it. A step takes it minutes,
and nothing the second time. The exit status is 0 when everything compiles and fits, 1
when something does not or a setting is wrong.
"""

import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from input_pipeline.errors import DataError
from input_pipeline.records import DatasetInfo, ShardInfo, SplitInfo, load_info
from models import complexity
from models.rewrites import input_form
from models.transfer import is_ours
from tpu_compiler import Compiler, Report, Topology
from train import batch_search, config, errors, feeding, preflight_text
from train.experiment import Experiment
from train.programs import CannotLower, Program, Programs, layer_of
from train.progress import say
from train.progressive import OWN
from train.stages import Stage

ROOT = Path(__file__).parent.parent
_TIMEOUT_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True)
class Step:
    """One of the run's programs, and what the compiler says of it.

    Attributes:
      name: such as "train step".
      stage: of the run that it belongs to; None is the evaluation's.
      program: None when XLA has no form of it.
      report: of the compiler; None without a program.
      problem: why it does not compile or fit, by "message", and, where known, "op",
        "layer" and "source"; None when it does both.
    """

    name: str
    stage: Stage | None
    program: Program | None
    report: Report | None
    problem: dict[str, Any] | None

    @property
    def compiles(self) -> bool:
        """Whether there is such a program for a TPU, however large."""
        return self.report is not None and self.report.verdict != "refused"

    @property
    def fits(self) -> bool:
        """Whether there is, and a core has the memory for it."""
        return self.report is not None and self.report.compiled


class Preflight:
    """Judges a run's programs for a slice."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        topology: Topology,
        compiler: Compiler,
    ):
        """Builds the model.

        Raises:
          UserError, models.variants.ModelError, input_pipeline.errors.DataError: as
            `train.main` would.
        """
        self.experiment, self.info, self.topology = experiment, info, topology
        self.programs = Programs(experiment, info, topology.num_devices)
        self.stages = experiment.stages(info)
        self._compiler = compiler

    def steps(self) -> list[Step]:
        """Compiles the update of every stage, and the evaluation's step."""
        wanted: dict[str, tuple[Stage | None, Callable[[], Program]]] = {}
        different = list(dict.fromkeys(self.stages.values()))
        for number, stage in enumerate(different, start=1):
            name = f"train step {number}" if len(different) > 1 else "train step"
            wanted[name] = stage, functools.partial(self.programs.train_step, stage)
        wanted["evaluation step"] = None, self.programs.eval_step

        # All are asked for at once: the service works at as many as it has processes.
        asked = [
            (name, stage, self._ask(name, lower))
            for name, (stage, lower) in wanted.items()
        ]
        return [self._judge(name, stage, answer) for name, stage, answer in asked]

    def _ask(self, name: str, lower: Callable[[], Program]):
        """Returns a program and the future of its report, or why there is none."""
        say(f"lowering the {name}", stays=False)
        try:
            program = lower()
        except CannotLower as error:
            return error
        say(
            f"compiling the {name} for {self.topology.num_devices:,} replicas on "
            f"{self.topology}: minutes, once",
            stays=False,
        )
        return program, self._compiler.compile(
            program.stablehlo,
            self.topology,
            self.topology.num_devices,
            timeout_seconds=_TIMEOUT_SECONDS,
            name=f"the {name}",
        )

    def _judge(self, name: str, stage: Stage | None, answer) -> Step:
        if isinstance(answer, CannotLower):
            problem = {
                "message": f"XLA has no {answer.op}" if answer.op else str(answer),
                "op": answer.op,
                **self.place(answer.node or "", answer.source),
            }
            return Step(name, stage, None, None, problem)
        program, future = answer
        report = future.result()
        problem = None
        if report.verdict == "refused":
            place = self.place(report.location)
            problem = {"message": report.message, "op": report.op, **place}
        elif report.verdict == "out_of_memory":
            largest = [
                {"bytes": buffer.bytes, "shape": buffer.shape, "at": buffer.location}
                for buffer in report.largest_buffers[:5]
            ]
            problem = {"message": report.message, "largest_buffers": largest}
        return Step(name, stage, program, report, problem)

    def place(self, node: str, source: str | None = None) -> dict[str, str]:
        """Returns which layer a node of the graph belongs to, and where that is."""
        layer = layer_of(node.split(" (")[0], self.programs.model)
        if layer is None:
            return {"layer": node, "source": source or ""}
        kind = type(layer)
        path = Path(inspect.getsourcefile(kind) or "")
        if path.is_relative_to(ROOT):
            path = path.relative_to(ROOT)
        line = inspect.getsourcelines(kind)[1]
        return {
            "layer": f"{layer.name} ({kind.__name__})",
            "source": source or f"{path}:{line}",
        }

    def largest_batch(self, step: Step) -> int:
        """Returns the largest global batch with which a train step is known to fit."""
        assert step.program is not None
        assert step.report is not None
        accumulation = self.experiment.accumulation_steps

        def needs(images: int) -> int | None:
            name = f"train step with {images:,} images a core"
            lower = functools.partial(
                self.programs.train_step, step.stage or OWN, images * accumulation
            )
            found = self._judge(name, step.stage, self._ask(name, lower)).report
            return None if found is None else found.needed_bytes

        first = step.program.images // accumulation
        images = batch_search.largest(needs, first, step.report.hbm_bytes)
        return images * accumulation * self.topology.num_devices


def preflight(
    experiment: Experiment,
    info: DatasetInfo,
    topology: Topology,
    compiler: Compiler,
    *,
    search: bool = True,
    reads_data: bool = True,
    cpu_ms: float | None = None,
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

    Raises:
      UserError, models.variants.ModelError, input_pipeline.errors.DataError: as
        `train.main` would.
      tpu_compiler.CompilerError: the compiler does not answer.
    """
    judge = Preflight(experiment, info, topology, compiler)
    steps = judge.steps()
    training = [step for step in steps if step.stage is not None]
    worst = max(training, key=lambda step: _needed(step) or sys.maxsize)
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
        "hbm_bytes": _needed(worst),
        "hbm_limit_bytes": topology.generation.hbm_bytes,
        "largest_global_batch_size": None,
        "steps": [_of_step(step, judge) for step in steps],
    }
    if search and worst.compiles:
        report["largest_global_batch_size"] = judge.largest_batch(worst)
    report |= _schedule(judge, training)
    if cpu_ms is None and reads_data:
        say("measuring the input pipeline", stays=False)
        cpu_ms = feeding.cpu_ms_per_image(experiment, input_form(judge.programs.model))
    report |= feeding.verdict(report["images_per_second"], topology, cpu_ms)
    return report | {
        "covers": preflight_text.COVERS,
        "leaves_out": preflight_text.LEAVES_OUT,
        "compiler": next((s.report.versions for s in steps if s.report), {}),
    }


def _needed(step: Step) -> int | None:
    return None if step.report is None else step.report.needed_bytes


def _of_step(step: Step, judge: Preflight) -> dict[str, Any]:
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
        "hbm_bytes": report.needed_bytes,
        "compile_seconds": round(report.seconds, 1),
    }
    if report.memory is None or report.costs is None:
        return found
    reduces = [one for one in report.collectives if one.kind == "all-reduce"]
    return found | {
        "hbm_bytes_by_kind": dataclasses.asdict(report.memory),
        "estimated_step_ms": report.milliseconds,
        **_floors(step, judge),
        "all_reduces": sum(one.count for one in reduces),
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


def _floors(step: Step, judge: Preflight) -> dict[str, Any]:
    """Returns the least time that a step could take, by arithmetic and by memory."""
    assert step.program is not None
    assert step.report is not None
    assert step.report.costs is not None
    generation, model = judge.topology.generation, judge.programs.model
    memory = step.report.costs.hbm_bytes / generation.hbm_bytes_per_second
    floors = {"memory": 1e3 * memory}
    if is_ours(model):
        macs = complexity.of_model(model, step.program.resolution).macs
        # A backward pass is two products for each of the forward pass; the evaluation
        # scores raw and averaged weights.
        passes = 2 if step.stage is None else 3
        flops = 2 * passes * macs * step.program.images
        floors["compute"] = 1e3 * flops / generation.peak_flops
    return {
        "floors_ms": floors,
        "bound": max(floors, key=lambda name: floors[name]),
    }


def _schedule(judge: Preflight, training: list[Step]) -> dict[str, Any]:
    """Returns the time of the whole run, by the estimates of its stages."""
    milliseconds = {
        step.stage: None if step.report is None else step.report.milliseconds
        for step in training
    }
    total, before = 0.0, 0
    for end, stage in judge.stages.items():
        each = milliseconds[stage]
        if each is None:
            return dict.fromkeys(
                ("estimated_step_ms", "images_per_second", "hours", "all_reduces")
            ) | {"train_steps": end}
        total += (end - before) * each
        before = end
    step_ms = total / before
    reduces = [
        sum(one.count for one in step.report.collectives if one.kind == "all-reduce")
        for step in training
        if step.report is not None
    ]
    return {
        "train_steps": before,
        "epochs": judge.experiment.epochs,
        "estimated_step_ms": step_ms,
        "images_per_second": judge.experiment.global_batch_size / step_ms * 1e3,
        "hours": total / 3.6e6,
        "all_reduces": max(reduces),
    }


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
    lower_bound=0.0,
)
flags.DEFINE_integer("workers", 2, "Compilations at the same time.", lower_bound=1)
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
        )
    print(json.dumps(report) if FLAGS.json else preflight_text.describe(report))
    sys.exit(0 if report["compiles"] and report["fits"] else 1)


if __name__ == "__main__":
    app.run(main)
