"""What the compiler of TPUs says of each of a run's steps."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from common.console import count
from common.project import ROOT
from input_pipeline.dataset_info import DatasetInfo
from preflight import largest_batch
from preflight.floors import floors_ms
from preflight.lowered_steps import CannotLower, LoweredSteps, layers_of
from preflight.progress import Answer, Progress
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
from train.experiment import MOST_IMAGES, Experiment
from train.stage_rows import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRequest:
    """A step that the compiler works at.

    Attributes:
      name: such as "train step".
      stage: of the run that it belongs to; None is the evaluation's.
      lowered: None when XLA has no form of it.
      answer: of the compiler; None when it was not lowered.
      problem: why it was not.
    """

    name: str
    stage: Stage | None
    lowered: LoweredStep | None = None
    answer: Answer | None = None
    problem: Problem | None = None


@dataclasses.dataclass(frozen=True)
class StepRequests:
    """All steps of a run: the update of every stage, and the evaluation's."""

    training: Sequence[StepRequest]
    evaluation: StepRequest


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
        self._progress = Progress(compiler.history)

    def request_steps(self) -> StepRequests:
        """Lower all steps of the run, and ask the compiler for them.

        All are asked for before the first is waited for: the service works at as many
        as it has processes, and at the training first.
        """
        programs = (stage.program for stage in self.stages.values())
        different = list(dict.fromkeys(programs))
        names = ["train step"]
        if len(different) > 1:
            names = [f"train step {i}" for i in range(1, len(different) + 1)]
        lower = self.lowered_steps.train_step
        training = [
            self._request(name, "train step", stage, functools.partial(lower, stage))
            for name, stage in zip(names, different, strict=True)
        ]
        evaluation = self._request(
            "evaluation step", "evaluation step", None, self.lowered_steps.eval_step
        )
        return StepRequests(training, evaluation)

    def training_steps(self, requests: StepRequests) -> Iterator[StepReport]:
        """Yield the update of every stage, each as soon as it is known.

        Raises:
          CompilerError: the compiler does not answer.
        """
        steps = map(self._wait, requests.training)
        if not any(one.stage and one.stage.frozen for one in requests.training):
            yield from steps
            return
        steps = list(steps)  # what lies beside the frozen parts is in the others
        most = self._most_variables(steps)
        yield from (self._with_residents(step, most) for step in steps)

    def evaluation_step(
        self, requests: StepRequests, training: Sequence[StepReport]
    ) -> StepReport:
        """Return the evaluation's step; raises as `training_steps`.

        Args:
          requests: of all steps.
          training: the steps whose variables lie beside it.
        """
        step = self._wait(requests.evaluation)
        return self._with_residents(step, self._most_variables(training))

    def _most_variables(self, training: Iterable[StepReport]) -> int:
        """Return the bytes of variables that lie in HBM, whatever a step knows of.

        That is the update's in which the most learns, as padded by the compiler; but
        at least the whole state, of which perhaps each stage freezes a part.
        """
        known = (step.variable_bytes for step in training)
        return max(self.lowered_steps.state_bytes, *known)

    def _with_residents(self, step: StepReport, most: int) -> StepReport:
        """Count what stays in HBM while a step runs that does not know of it.

        That is what the arguments of the update have more in which the most learns, but
        for images, of which one program's at a time are there: the optimizer's slots,
        beside an evaluation, and of parts that are frozen in the stage of this step.
        """
        knows_all = step.stage is not None and not step.stage.frozen
        resident = max(0, most - step.variable_bytes)
        if not step.compiles or knows_all or not resident:
            return step
        step = dataclasses.replace(step, resident_bytes=resident)
        if step.problem:  # alone, too
            return step
        needed, limit = step.needed_bytes, self._topology.generation.hbm_bytes
        if needed is None or needed <= limit:
            return step
        message = (
            f"needs {needed / 2**30:.2f} GiB with what lies beside it of the training, "
            f"of {limit / 2**30:.2f} GiB"
        )
        return dataclasses.replace(step, problem=Problem(message=message))

    def _request(
        self,
        name: str,
        kind: str,
        stage: Stage | None,
        lower: Callable[[], LoweredStep],
    ) -> StepRequest:
        """Lower a step and ask the compiler; steps of a kind take about as long."""
        self._progress.lowering(f"the {name}")
        try:
            lowered = lower()
        except CannotLower as error:
            location = self.location(error.node or "", error.source)
            problem = Problem(message=error.reason, op=error.op, location=location)
            return StepRequest(name=name, stage=stage, problem=problem)
        topology, replicas = self._topology, self._topology.num_devices
        kind = f"{kind}, {self.model.name}, {lowered.resolution} px, {topology.name}"
        answer = self._compiler.compile(
            lowered.stablehlo,
            topology,
            replicas,
            timeout_seconds=self._timeout_seconds,
            name=f"the {name}",
            kind=kind,
        )
        where = f"{count(replicas, 'replica')} of {topology}"
        self._progress.compiling(f"the {name}", kind, where, answer)
        return StepRequest(name=name, stage=stage, lowered=lowered, answer=answer)

    def _wait(self, request: StepRequest) -> StepReport:
        """Wait for the compiler, and return what it says of a step."""
        if request.lowered is None or request.answer is None:
            name, stage = request.name, request.stage
            return StepReport(name=name, stage=stage, problem=request.problem)
        compilation = self._progress.wait(request.answer)
        return self._analyse(request.name, request.stage, request.lowered, compilation)

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
        assert step.needed_bytes is not None
        first = step.lowered.images // self._experiment.accumulation_steps
        asked = [first]
        unknown: dict[int, str] = {}  # why the compiler had no answer

        def needs(several: Sequence[int]) -> list[int | None]:
            asked.extend(several)
            requests = [self._request_batch(step, images) for images in several]
            sizes: list[int | None] = []
            for images, request in zip(several, requests, strict=True):
                try:
                    size = self._wait(request).needed_bytes
                except CompilerError as error:
                    unknown[images], size = str(error), None
                sizes.append(None if size is None else size + step.resident_bytes)
            return sizes

        accumulation = self._experiment.accumulation_steps
        replicas = self._topology.num_devices
        each = accumulation * replicas
        fits, too_many = largest_batch.largest(
            needs,
            first,
            step.needed_bytes,
            self._topology.generation.hbm_bytes,
            most=MOST_IMAGES // each,
            fixed=step.fixed_bytes,
        )
        if too_many in unknown:  # a larger one may have been told not to fit
            larger = (n for n in asked if n > fits and n not in unknown)
            too_many = min(larger, default=None)
        return LargestBatch(
            images=fits * each,
            too_many=None if too_many is None else too_many * each,
            replicas=replicas,
            failed_compilations=tuple(unknown.values()),
        )

    def _request_batch(self, step: StepReport, images: int) -> StepRequest:
        """Ask for a train step with another number of images in a micro-batch."""
        assert step.lowered is not None
        assert step.stage is not None
        lower = functools.partial(
            self.lowered_steps.other_batch,
            step.lowered,
            step.stage,
            images * self._experiment.accumulation_steps,
        )
        name = f"train step with {images:,} images a replica"
        # Where memory is short, the compiler takes longer.
        return self._request(name, "train step of another batch", step.stage, lower)


def _source(kind: type) -> str:
    """Return "file:line" of a class; files of the project without its folder."""
    path = Path(inspect.getsourcefile(kind) or "")
    if "site-packages" not in path.parts and path.is_relative_to(ROOT):
        path = path.relative_to(ROOT)
    return f"{path}:{inspect.getsourcelines(kind)[1]}"
