"""What the compiler of TPUs says of each of a run's steps."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path

from common.console import count, say
from common.project import ROOT
from input_pipeline.dataset_info import DatasetInfo
from preflight import largest_batch
from preflight.floors import floors_ms
from preflight.lowered_steps import CannotLower, LoweredSteps, layers_of
from preflight.rows import (
    DynamicShape,
    LargeBuffer,
    LargestBatch,
    Location,
    LoweredStep,
    Problem,
    StepReport,
)
from tpu_compiler import Compiler, CompilerError, CompilerReport, Topology
from train import stages
from train.experiment import Experiment
from train.stage_rows import Stage


class StepAnalyser:
    """Has a run's steps compiled for a slice, and says what comes of it.

    Attributes:
      model: that is trained.
      stages: of the run, by the step that ends each.
      lowered_steps: of the run on this slice.
    """

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        topology: Topology,
        compiler: Compiler,
        *,
        timeout_seconds: float = 3600.0,
    ):
        """Build the model, and look at the settings of all stages.

        Args:
          experiment: the recipe; its strategy does not matter.
          info: of its data.
          topology: the slice.
          compiler: of TPUs.
          timeout_seconds: of each compilation.

        Raises:
          UserError, models.errors.ModelError, input_pipeline.errors.DataError: as
            `train.main` would.
        """
        self.lowered_steps = LoweredSteps(experiment, info, topology.num_devices)
        self.model = self.lowered_steps.model
        self.stages = experiment.stages(info)
        stages.check(self.stages.values(), experiment, self.model)
        self._experiment, self._topology = experiment, topology
        self._compiler, self._timeout_seconds = compiler, timeout_seconds

    def analyse_steps(self) -> list[StepReport]:
        """Compile the update of every stage and, the last one, the evaluation's step.

        Raises:
          CompilerError: the compiler does not answer.
        """
        programs = (stage.program for stage in self.stages.values())
        different = list(dict.fromkeys(programs))
        names = ["train step"]
        if len(different) > 1:
            names = [f"train step {i}" for i in range(1, len(different) + 1)]
        # All are asked for at once: the service works at as many as it has processes.
        train_answers = [
            self._submit(
                name, stage, functools.partial(self.lowered_steps.train_step, stage)
            )
            for name, stage in zip(names, different, strict=True)
        ]
        eval_answer = self._submit(
            "evaluation step", None, self.lowered_steps.eval_step
        )
        training = [answer() for answer in train_answers]
        most = max(step.variable_bytes for step in training)
        return [self._with_residents(s, most) for s in (*training, eval_answer())]

    def _with_residents(self, step: StepReport, most: int) -> StepReport:
        """Count what stays in HBM while a step runs that does not know of it.

        That is what the arguments of the update have more in which the most learns, but
        for images, of which one program's at a time are there: the optimizer's slots,
        beside an evaluation, and of parts that are frozen in the stage of this step.
        """
        knows_all = step.stage is not None and not step.stage.frozen
        resident = max(0, most - step.variable_bytes)
        if step.problem or knows_all or not resident:
            return step
        step = dataclasses.replace(step, resident_bytes=resident)
        needed, limit = step.needed_bytes, self._topology.generation.hbm_bytes
        if needed is None or needed <= limit:
            return step
        message = (
            f"needs {needed / 2**30:.2f} GiB with what lies beside it of the training, "
            f"of {limit / 2**30:.2f} GiB"
        )
        return dataclasses.replace(step, problem=Problem(message=message))

    def _submit(
        self, name: str, stage: Stage | None, lower: Callable[[], LoweredStep]
    ) -> Callable[[], StepReport]:
        """Lower a step and ask the compiler; return what waits for the answer."""
        say(f"lowering the {name}", stays=False)
        try:
            lowered = lower()
        except CannotLower as error:
            location = self.location(error.node or "", error.source)
            problem = Problem(message=error.reason, op=error.op, location=location)
            return lambda: StepReport(name=name, stage=stage, problem=problem)
        replicas = self._topology.num_devices
        say(
            f"compiling the {name} for {count(replicas, 'replica')} of "
            f"{self._topology}, minutes if it is not known",
            stays=False,
        )
        future = self._compiler.compile(
            lowered.stablehlo,
            self._topology,
            replicas,
            timeout_seconds=self._timeout_seconds,
            name=f"the {name}",
        )
        return lambda: self._analyse(name, stage, lowered, future.result())

    def _analyse(
        self,
        name: str,
        stage: Stage | None,
        lowered: LoweredStep,
        compilation: CompilerReport,
    ) -> StepReport:
        floors, dynamic = {}, ()
        if compilation.costs is not None:
            floors = floors_ms(
                lowered,
                compilation.costs,
                self.model,
                self._topology.generation,
                trains=stage is not None,
                frozen=(stage and stage.frozen) or (),
            )
            dynamic = tuple(
                DynamicShape(one.op, one.shape, self.location(one.location))
                for one in compilation.dynamic
            )
        return StepReport(
            name=name,
            stage=stage,
            lowered=lowered,
            compilation=compilation,
            problem=self._problem(compilation),
            floors_ms=floors,
            dynamic_shapes=dynamic,
        )

    def _problem(self, compilation: CompilerReport) -> Problem | None:
        """Return what is wrong with a step, its layers by their names in the model."""
        if compilation.verdict == "refused":
            return Problem(
                message=compilation.message,
                op=compilation.op,
                location=self.location(compilation.location),
            )
        if compilation.verdict == "out_of_memory":
            buffers = tuple(
                LargeBuffer(one.bytes, one.shape, self.location(one.location).layer)
                for one in compilation.largest_buffers[:5]
            )
            return Problem(message=compilation.message, largest_buffers=buffers)
        return None

    def location(self, node: str, source: str | None = None) -> Location:
        """Return which layer a node of the graph belongs to, and where that is.

        A layer of Keras' own has the source of the layer around it that is not.

        Args:
          node: its name, and perhaps " (file:line)" of a call inside TensorFlow.
          source: "file:line" of the call that made it, where that is known.
        """
        node, _, call = node.partition(" (")
        layers = layers_of(node, self.model)
        if not layers:
            inside = "site-packages/" in call
            shown = f"{node} ({call}" if call and not inside else node
            return Location(shown, source or "")
        path = "/".join(layer.name for layer in layers)
        sources = [_source(type(layer)) for layer in layers]
        own = [one for one in sources if "site-packages/" not in one]
        layer = f"{path} ({type(layers[-1]).__name__})"
        return Location(layer, source or (own or sources)[-1])

    def largest_batch(self, step: StepReport) -> LargestBatch:
        """Search the largest global batch with which a train step is known to fit."""
        assert step.lowered is not None
        assert step.compilation is not None
        assert step.stage is not None
        stage, accumulation = step.stage, self._experiment.accumulation_steps
        first = step.lowered.images // accumulation
        failed: list[str] = []

        def needed_bytes(images: int) -> int | None:
            if images == first:
                return step.needed_bytes
            name = f"train step with {images:,} images a replica"
            train_step = self.lowered_steps.train_step
            lower = functools.partial(train_step, stage, images * accumulation)
            try:
                return self._submit(name, stage, lower)().needed_bytes
            except CompilerError as error:
                failed.append(str(error))
                return None

        images = largest_batch.largest(needed_bytes, first, step.compilation.hbm_bytes)
        return LargestBatch(
            images * accumulation * self._topology.num_devices, tuple(failed)
        )


def _source(kind: type) -> str:
    """Return "file:line" of a class; files of the project without its folder."""
    path = Path(inspect.getsourcefile(kind) or "")
    if "site-packages" not in path.parts and path.is_relative_to(ROOT):
        path = path.relative_to(ROOT)
    return f"{path}:{inspect.getsourcelines(kind)[1]}"
