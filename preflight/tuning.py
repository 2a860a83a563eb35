"""Which exact form of a run's network the compiler of TPUs finds fastest.

Forms of the stem differ in the first layers alone, and there the compiler counts about
as many cycles as in the whole. So these layers are compiled in every form, which takes
seconds, and the whole, which takes minutes, only in the form that is fastest by them;
then once more with gradients split.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from common.console import count
from common.errors import UserError, first_line
from input_pipeline.dataset_info import DatasetInfo
from models.variants import Variant
from performance import lowering
from performance.segments import InferenceOptions, least_with_stem
from preflight import forms
from preflight.form_steps import FormSteps, RunInForm
from preflight.forms import Form
from preflight.lowered_steps import CannotLower
from preflight.progress import Answer, Progress
from preflight.rows import StepReport
from preflight.tuning_rows import (
    Extent,
    FastestForm,
    FormEstimate,
    OtherBatch,
    SkippedForms,
    TuningFinding,
)
from tpu_compiler import (
    Compiler,
    CompilerError,
    CompilerReport,
    Topology,
    UnusableCompilerError,
)
from train.experiment import MOST_IMAGES, Experiment
from train.stage_rows import Stage

_FINALISTS = 2  # of which the whole is compiled, the second where the first is slower
_EQUAL = 0.001  # of the time as written: a difference that is none
_WORTH = 0.005  # of the same: for less nobody has to write anything
_NEARLY_FULL = 0.8  # of HBM: there the compiler saves memory at the price of time
_DTYPES = {"mixed_bfloat16": "bfloat16", "float32": "float32"}


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the compiler works at, and its answer; or why it was not asked."""

    form: Form
    answer: Answer | None
    problem: str | None = None


class Tuner:
    """Has forms of a run's network compiled for its slice."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        topology: Topology,
        compiler: Compiler,
        stages: Mapping[int, Stage],
        *,
        timeout_seconds: float = 3600.0,
    ):
        """Look at the settings; nothing is compiled yet.

        Args:
          experiment: the recipe.
          info: of its data.
          topology: the slice.
          compiler: of TPUs.
          stages: of the run, by the step that ends each.
          timeout_seconds: of each compilation.
        """
        self._experiment, self._topology = experiment, topology
        self._compiler, self._timeout_seconds = compiler, timeout_seconds
        self._progress = Progress(compiler.history)
        self._steps = FormSteps(experiment, info, topology.num_devices)
        self._classes = len(info.label_names)
        self._lengths = _lengths(stages)
        self._unknown = forms.why_none(experiment)
        self.written = forms.form_of(experiment)

    def findings(
        self, training: Sequence[StepReport], *, other_batches: bool = True
    ) -> Iterator[TuningFinding]:
        """Yield all that is found of the network's forms, as soon as it is.

        Args:
          training: the train step of every stage, as the config has it.
          other_batches: whether to compile these, too, which are another recipe.

        Raises:
          UnusableCompilerError: nothing can be compiled here.
        """
        yield from self.skipped()
        best = None
        for one in self.train_forms(training):
            best = one if isinstance(one, FastestForm) else best
            yield one
        yield from self.inference_forms()
        if best is not None and other_batches:
            yield from self.other_batches(training, best)

    def skipped(self) -> Iterator[SkippedForms]:
        """Yield what is not compiled, and why, if there is anything."""
        if self._unknown is not None:
            yield SkippedForms(reasons={"all": self._unknown})
            return
        reasons = {}
        for form in forms.STEMS:
            if why := self._why_not(form):
                reasons[f"stem_block_size = {form.patch_size}"] = why
        if reasons:
            yield SkippedForms(reasons=reasons)

    def train_forms(self, training: Sequence[StepReport]) -> Iterator[TuningFinding]:
        """Yield what the compiler says of the train step's forms, the fastest last.

        Args:
          training: the update of every stage, as the config has it.

        Raises:
          UnusableCompilerError: nothing can be compiled here.
        """
        if self._unknown is not None or any(one.lowered is None for one in training):
            return
        main = self._longest(training)
        found = []
        for one in self._first_layers(main):
            found.append(one)
            yield one
        written = self._as_written(training)
        best = written if written.milliseconds is not None else None
        for form in self._finalists(found, written.milliseconds):
            one = self._whole(form, training)
            yield one
            if one.milliseconds is not None and _is_faster(one, best):
                best = one
                break
        if forms.splits_gradients(forms.variant_of(self._experiment)):
            form = (written if best is None else best).form
            other = dataclasses.replace(form, split_gradients=not form.split_gradients)
            one = self._whole(other, training)
            yield one
            if one.milliseconds is not None and _is_faster(one, best):
                best = one
        assert main.lowered is not None
        images = main.lowered.images
        yield FastestForm(
            extent="train step", best=best, written=written, images=images
        )

    def inference_forms(self) -> Iterator[TuningFinding]:
        """Yield what the compiler says of inference's forms, the fastest last.

        That is the evaluation's batch on one device, whose network is that of an
        export: there batch norm may be folded into the convolutions.

        Raises:
          UnusableCompilerError: nothing can be compiled here.
        """
        if self._unknown is not None:
            return
        variant, options = forms.variant_of(self._experiment), self._inference()
        least = least_with_stem(variant)
        found, name = [], "the first layers in inference"
        for one in self._estimates(
            "first layers, inference",
            lambda form: self._ask_inference(least, options, form, name),
        ):
            found.append(one)
            yield one
        whole: list[FormEstimate] = []
        fastest = self._finalists(found, None)[:1]
        for form, folded in [
            (self.written, False),
            *((form, False) for form in fastest),
            *((form, True) for form in fastest or [self.written]),
        ]:
            name = "inference, batch norm folded" if folded else "inference"
            asked = self._ask_inference(variant, options, form, name, folded=folded)
            whole.append(self._estimate(asked, "inference", folded=folded))
            yield whole[-1]
        best = None
        for one in whole:  # with more and more changes
            if one.milliseconds is not None and _is_faster(one, best):
                best = one
        yield FastestForm(
            extent="inference", best=best, written=whole[0], images=options.batch
        )

    def other_batches(
        self, training: Sequence[StepReport], best: FastestForm
    ) -> Iterator[OtherBatch]:
        """Yield what an image costs where there are more or fewer at a time.

        That is another recipe: batch norm sees other images together.

        Raises:
          UnusableCompilerError: nothing can be compiled here.
        """
        main = self._longest(training)
        if best.best is None or main.lowered is None or main.milliseconds is None:
            return
        form, images = best.best.form, main.lowered.images
        micro_batches = self._experiment.accumulation_steps
        known = self._milliseconds_of(main, form) / images
        for size, parts in self._batches(main, images, micro_batches):
            run = RunInForm(form, replica_images=size, micro_batches=parts)
            said = f"train step with {size:,} images a replica"
            said += f" in {parts} micro-batches" * (parts > 1)
            asked = self._ask(run, main, said)
            one = self._estimate(asked, "train step", main.resident_bytes)
            yield OtherBatch(
                images=size,
                micro_batches=parts,
                milliseconds=one.milliseconds,
                known=known,
                problem=one.problem,
            )

    def _batches(
        self, main: StepReport, images: int, micro_batches: int
    ) -> Iterator[tuple[int, int]]:
        """Yield images of a replica and into how many micro-batches they are cut."""
        if micro_batches > 1:
            yield images, 1
        elif images % 2 == 0 and (main.needed_bytes or 0) > self._limit(_NEARLY_FULL):
            yield images, 2
        if 2 * images * self._topology.num_devices <= MOST_IMAGES:
            yield 2 * images, micro_batches

    def _limit(self, share: float = 1.0) -> float:
        return share * self._topology.generation.hbm_bytes

    def _milliseconds_of(self, main: StepReport, form: Form) -> float:
        """Return the time of the longest stage's step in a form that was compiled."""
        if form == self.written:
            return main.milliseconds or math.nan
        asked = self._ask(RunInForm(form), main, "train step")
        return self._estimate(asked, "train step").milliseconds or math.nan

    def _first_layers(self, main: StepReport) -> Iterator[FormEstimate]:
        def ask(form: Form) -> _Asked:
            return self._ask(RunInForm(form, first_layers=True), main, "first layers")

        yield from self._estimates("first layers", ask)

    def _estimates(
        self, extent: Extent, ask: Callable[[Form], _Asked]
    ) -> Iterator[FormEstimate]:
        """Yield all forms, each as soon as those before it are known."""
        waiting: collections.deque[_Asked] = collections.deque()
        stems = [self.written.of_stem(one) for one in forms.STEMS]
        for form in dict.fromkeys((self.written, *stems)):
            if form != self.written and self._why_not(form):
                continue
            waiting.append(ask(form))
            while waiting and (waiting[0].answer is None or waiting[0].answer.done()):
                yield self._estimate(waiting.popleft(), extent)
        for asked in waiting:
            yield self._estimate(asked, extent)

    def _finalists(
        self, found: Sequence[FormEstimate], whole_ms: float | None
    ) -> list[Form]:
        """Return the forms of the fastest first layers; none is as fast as written.

        Of forms that are equally fast the one is taken that changes the fewest
        settings.
        """
        known = {
            one.form: one.milliseconds for one in found if one.milliseconds is not None
        }
        least = known.get(self.written, math.inf)
        grain = _EQUAL * (whole_ms or min(known.values(), default=1.0))

        def rank(form: Form) -> tuple[int, int]:
            return round(known[form] / grain), len(forms.changes(form, self.written))

        faster = [form for form, ms in known.items() if ms < least - grain]
        return sorted(faster, key=rank)[:_FINALISTS]

    def _as_written(self, training: Sequence[StepReport]) -> FormEstimate:
        """Return what is known of the train step of all stages as the config has it."""
        problems = [one.problem.message for one in training if one.problem]
        times = {one.stage.program: one.milliseconds for one in training if one.stage}
        return FormEstimate(
            form=self.written,
            extent="train step",
            as_written=True,
            milliseconds=None if problems else self._of_run(times),
            problem=problems[0] if problems else None,
        )

    def _whole(self, form: Form, training: Sequence[StepReport]) -> FormEstimate:
        """Return the train step of all stages in a form."""
        several = len(training) > 1
        asked = [
            (
                one,
                self._ask(RunInForm(form), one, one.name if several else "train step"),
            )
            for one in training
        ]
        steps = {
            one.stage: self._estimate(answer, "train step", one.resident_bytes)
            for one, answer in asked
        }
        problem = next((one.problem for one in steps.values() if one.problem), None)
        times = {
            stage.program: one.milliseconds for stage, one in steps.items() if stage
        }
        return FormEstimate(
            form=form,
            extent="train step",
            as_written=False,
            milliseconds=None if problem else self._of_run(times),
            problem=problem,
        )

    def _of_run(self, times: Mapping[Stage, float | None]) -> float | None:
        """Return the average over the run's steps; None where one is not known."""
        total = 0.0
        for stage, milliseconds in times.items():
            if milliseconds is None:
                return None
            total += milliseconds * self._lengths[stage]
        return total / sum(self._lengths.values())

    def _longest(self, training: Sequence[StepReport]) -> StepReport:
        """Return the step of the stage that takes most of the run's time."""

        def hours(one: StepReport) -> float:
            length = self._lengths[one.stage.program] if one.stage else 0
            return (one.milliseconds or 1.0) * length

        return max(training, key=hours)

    def _ask(self, run: RunInForm, step: StepReport, what: str) -> _Asked:
        """Ask for a stage's update in another form."""
        assert step.lowered is not None
        assert step.stage is not None
        name = f"the {what}, {run.form}"
        self._progress.lowering(name)
        try:
            program = self._steps.lower(run, step.stage, step.lowered.stablehlo)
        except CannotLower as error:
            return _Asked(run.form, None, error.reason)
        except CompilerError:
            raise
        except UserError as error:  # another batch may not suit the other settings
            return _Asked(run.form, None, first_line(error))
        kind = f"{what}, {step.lowered.resolution} px, {self._topology.name}"
        replicas = self._topology.num_devices
        answer = self._compile(program, self._topology, replicas, name, kind)
        return _Asked(run.form, answer)

    def _ask_inference(
        self,
        variant: Variant,
        options: InferenceOptions,
        form: Form,
        what: str,
        *,
        folded: bool = False,
    ) -> _Asked:
        """Ask for inference on one device, whatever slice that is part of."""
        settings = forms.as_inference(form) | {"fold_batch_norm": folded}
        chosen = dataclasses.replace(options, **settings)
        program = lowering.network(variant, chosen)
        name = f"{what}, {form}"
        kind = f"{what}, {variant.resolution} px, {self._topology.name}"
        device = self._topology.one_device
        return _Asked(form, self._compile(program, device, 1, name, kind))

    def _compile(
        self, program: bytes, topology: Topology, replicas: int, name: str, kind: str
    ) -> Answer:
        answer = self._compiler.compile(
            program,
            topology,
            replicas,
            timeout_seconds=self._timeout_seconds,
            name=name,
            kind=kind,
        )
        where = f"{count(replicas, 'replica')} of {topology}"
        self._progress.compiling(name, kind, where, answer)
        return answer

    def _estimate(
        self, asked: _Asked, extent: Extent, resident: int = 0, *, folded: bool = False
    ) -> FormEstimate:
        """Wait for the compiler, and return what it says of a form."""
        report, problem = None, asked.problem
        if asked.answer is not None:
            try:
                report = self._progress.wait(asked.answer)
                problem = self._problem(report, resident)
            except UnusableCompilerError:
                raise
            except CompilerError as error:  # of this form: the others may be compiled
                problem = str(error)
        return FormEstimate(
            form=asked.form,
            extent=extent,
            as_written=asked.form == self.written and not folded,
            milliseconds=None if problem or report is None else report.milliseconds,
            problem=problem,
            folded=folded,
        )

    def _problem(self, report: CompilerReport, resident: int) -> str | None:
        if not report.compiled:
            return report.message
        needed = (report.needed_bytes or 0) + resident
        if needed <= self._limit():
            return None
        return f"needs {needed / 2**30:.2f} GiB with what lies beside it"

    def _inference(self) -> InferenceOptions:
        experiment = self._experiment
        classes = forms.settings_of(experiment).get("num_classes", 1000)
        return InferenceOptions(
            batch=experiment.eval_batch_size // self._topology.num_devices,
            dtype=_DTYPES[experiment.precision],
            num_classes=classes or self._classes,
        )

    def _why_not(self, form: Form) -> str | None:
        sizes = [stage.resolution for stage in self._lengths if stage.resolution]
        return forms.why_not(form, forms.variant_of(self._experiment), sizes)


def _is_faster(one: FormEstimate, other: FormEstimate | None) -> bool:
    """Whether a form is, by what is worth it; None or unknown is slower than any."""
    if other is None or other.milliseconds is None:
        return True
    assert one.milliseconds is not None
    return one.milliseconds < (1 - _WORTH) * other.milliseconds


def _lengths(stages: Mapping[int, Stage]) -> dict[Stage, int]:
    """Return the number of steps by what their step is compiled from."""
    lengths: collections.Counter[Stage] = collections.Counter()
    before = 0
    for end, stage in stages.items():
        lengths[stage.program] += end - before
        before = end
    return dict(lengths)
