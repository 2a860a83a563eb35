"""What the compiler of TPUs says of each of a run's programs."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from common.console import say
from input_pipeline.records import DatasetInfo
from models.input_form import input_form
from preflight import largest_batch
from preflight.lowered_steps import CannotLower, Program, Programs, layers_of
from tpu_compiler import Compiler, CompilerError, CompilerReport, Topology
from train import datasets, stages
from train.config import ROOT
from train.datasets import eval_dataset
from train.experiment import Experiment
from train.stage_rows import BASE_STAGE, Stage


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
      beside: bytes of a device's HBM that the program does not know of: what lies there
        of the training while it evaluates.
    """

    name: str
    stage: Stage | None
    program: Program | None
    report: CompilerReport | None
    problem: dict[str, Any] | None
    beside: int = 0

    @property
    def compiles(self) -> bool:
        """Whether there is such a program for a TPU, however large."""
        return self.report is not None and self.report.verdict != "refused"

    @property
    def fits(self) -> bool:
        """Whether there is, and a core has the memory for it."""
        return self.problem is None

    @property
    def needed_bytes(self) -> int | None:
        """Of a device's HBM; None where it does not compile."""
        if self.report is None or self.report.needed_bytes is None:
            return None
        return self.report.needed_bytes + self.beside

    @property
    def all_reduces(self) -> int:
        """How many the program has."""
        found = () if self.report is None else self.report.collectives
        return sum(one.count for one in found if one.kind == "all-reduce")


class Judge:
    """Judges a run's programs for a slice."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        topology: Topology,
        compiler: Compiler,
        *,
        timeout_seconds: float = 3600.0,
    ):
        """Builds the model, and looks at the settings of all stages.

        Raises:
          UserError, models.errors.ModelError, input_pipeline.errors.DataError: as
            `train.main` would.
        """
        self.experiment, self.info, self.topology = experiment, info, topology
        self.programs = Programs(experiment, info, topology.num_devices)
        self.stages = experiment.stages(info)
        stages.check(self.stages.values(), experiment, self.programs.model)
        self._compiler, self._timeout_seconds = compiler, timeout_seconds
        self.unanswered: list[str] = []  # of the search

    def open_data(self) -> None:
        """Opens the data of training and evaluation; no record is read.

        Raises:
          DataError: it cannot be opened, or with these settings.
        """
        strategy, form = tf.distribute.get_strategy(), input_form(self.programs.model)
        datasets.train_dataset(self.experiment, strategy, form)
        eval_dataset(self.experiment, self.info, strategy, form)

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
        *training, evaluation = (self._judge(*one) for one in asked)
        return [*training, self._beside_training(evaluation, training)]

    def _beside_training(self, evaluation: Step, training: list[Step]) -> Step:
        """Counts what stays in HBM while an evaluation runs, as the optimizer's slots.

        That is what the update's arguments have more than the evaluation's.
        """
        most = max(_arguments(step) for step in training)
        beside = max(0, most - _arguments(evaluation))
        if evaluation.problem or not beside:
            return evaluation
        evaluation = dataclasses.replace(evaluation, beside=beside)
        needed, limit = evaluation.needed_bytes, self.topology.generation.hbm_bytes
        if needed is None or needed <= limit:
            return evaluation
        message = (
            f"needs {needed / 2**30:.2f} GiB with what lies beside it of the training, "
            f"of {limit / 2**30:.2f} GiB"
        )
        return dataclasses.replace(evaluation, problem={"message": message})

    def _ask(self, name: str, lower: Callable[[], Program]):
        """Returns a program and the future of its report, or why there is none."""
        say(f"lowering the {name}", stays=False)
        try:
            program = lower()
        except CannotLower as error:
            return error
        replicas = self.topology.num_devices
        say(
            f"compiling the {name} for {replicas:,} replica{'s' * (replicas > 1)} of "
            f"{self.topology}, minutes if it is not known",
            stays=False,
        )
        return program, self._compiler.compile(
            program.stablehlo,
            self.topology,
            replicas,
            timeout_seconds=self._timeout_seconds,
            name=f"the {name}",
        )

    def _judge(self, name: str, stage: Stage | None, answer) -> Step:
        if isinstance(answer, CannotLower):
            problem = {
                "message": answer.reason,
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
                {
                    "bytes": buffer.bytes,
                    "shape": buffer.shape,
                    "layer": self.place(buffer.location)["layer"],
                }
                for buffer in report.largest_buffers[:5]
            ]
            problem = {"message": report.message, "largest_buffers": largest}
        return Step(name, stage, program, report, problem)

    def place(self, node: str, source: str | None = None) -> dict[str, str]:
        """Returns which layer a node of the graph belongs to, and where that is.

        A layer of Keras' own has the place of the layer around it that is not.
        """
        node, _, where = node.partition(" (")  # ... of a call inside TensorFlow
        layers = layers_of(node, self.programs.model)
        if not layers:
            inside = "site-packages/" in where
            place = f"{node} ({where}" if where and not inside else node
            return {"layer": place, "source": source or ""}
        path = "/".join(layer.name for layer in layers)
        sources = [_source(type(layer)) for layer in layers]
        own = [one for one in sources if "site-packages/" not in one]
        return {
            "layer": f"{path} ({type(layers[-1]).__name__})",
            "source": source or (own or sources)[-1],
        }

    def largest_batch(self, step: Step) -> int:
        """Returns the largest global batch with which a train step is known to fit."""
        assert step.program is not None
        assert step.report is not None
        accumulation = self.experiment.accumulation_steps
        first = step.program.images // accumulation

        def needs(images: int) -> int | None:
            if images == first:
                return step.needed_bytes
            name = f"train step with {images:,} images a replica"
            lower = functools.partial(
                self.programs.train_step,
                step.stage or BASE_STAGE,
                images * accumulation,
            )
            try:
                answer = self._judge(name, step.stage, self._ask(name, lower))
            except CompilerError as error:
                self.unanswered.append(str(error))
                return None
            return answer.needed_bytes

        images = largest_batch.largest(needs, first, step.report.hbm_bytes)
        return images * accumulation * self.topology.num_devices


def _arguments(step: Step) -> int:
    """Returns the bytes that a program is given; 0 where that is not known."""
    if step.report is None or step.report.memory is None:
        return 0
    return step.report.memory.arguments


def _source(kind: type) -> str:
    """Returns "file:line" of a class; files of the project without its folder."""
    path = Path(inspect.getsourcefile(kind) or "")
    if "site-packages" not in path.parts and path.is_relative_to(ROOT):
        path = path.relative_to(ROOT)
    return f"{path}:{inspect.getsourcelines(kind)[1]}"
