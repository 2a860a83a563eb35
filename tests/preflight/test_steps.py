import dataclasses
import functools
import importlib
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf

from common.accelerators import TPUS
from common.errors import UserError
from common.project import ROOT
from input_pipeline.dataset_info import load_info
from preflight import program_keys, report, rows
from preflight.compile_only import CompileOnlyStrategy
from preflight.floors import forward_equivalents
from preflight.lowered_steps import LoweredSteps, argument_bytes, layers_of
from preflight.outlook import HostInput, Outlook, Schedule
from preflight.rows import LoweredStep, StepReport
from preflight.steps import StepAnalyser
from tests.preflight.fakes import FakeCompiler, lower, report_of
from tests.support.runs import experiment_of
from tpu_compiler import CompilerError, Topology
from train.stage_rows import Stage
from train.stages import stage_form


@pytest.mark.long
def test_stages_are_programs_of_their_own(digits):
    rows = [
        {"until_epoch": 0.06, "resolution": 16},
        {"until_epoch": 0.12, "resolution": 32},
    ]
    experiment = experiment_of(
        digits,
        **{
            "experiment.Experiment.progressive": rows,
            "experiment.Experiment.epochs": 0.12,
        },
    )
    analyser = StepAnalyser(
        experiment, load_info(str(digits)), Topology.parse("v3"), FakeCompiler()
    )
    first, second = analyser.stages.values()
    program = analyser.lowered_steps.train_step(first)
    assert (program.resolution, program.images) == (16, 20)
    assert b"tensor<20x16x16x3xui8>" in program.stablehlo
    assert stage_form(second, analyser.model).resolution == 32
    # Nor does it depend on what was lowered before: the compiler's cache goes by it.
    assert analyser.lowered_steps.train_step(first) == program


@pytest.mark.long
def test_a_stage_with_frozen_parts_has_no_backward_pass_through_them(digits):
    """Tiny multiplies 12 times forward: stem, 5 and 4 in its blocks, head, classifier.

    What learns has two more each, for the gradients of weights and of inputs; but
    behind what is frozen nobody asks for that of the inputs.
    """
    program = LoweredSteps(experiment_of(digits), load_info(str(digits)), 1)

    def products(*frozen):
        text = program.train_step(Stage(frozen=frozen)).stablehlo.decode()
        return sum(text.count(f"stablehlo.{op}") for op in ("convolution", "dot_gen"))

    assert products("stem") == 12 + 2 * 11 - 1
    assert products("stem", "stage_1", "stage_2") == 12 + 2 * 2 - 1


def analyser_of(digits, compiler=None, **changes):
    changes = {f"experiment.Experiment.{name}": v for name, v in changes.items()}
    return StepAnalyser(
        experiment_of(digits, **changes),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler or FakeCompiler(),
        timeout_seconds=7.0,
    )


@pytest.fixture
def not_lowered(monkeypatch, tmp_path):
    """Steps are their numbers of images; nobody waits for TensorFlow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(LoweredSteps, "train_step", lambda self, *a: lower(*a))
    monkeypatch.setattr(LoweredSteps, "eval_step", lambda self: lower())


@pytest.mark.parametrize(
    ("micro_batches", "dies", "ends"),
    [(1, False, (56, 64)), (2, False, (56, 64)), (1, True, (56, None))],
)
def test_largest_batch(digits, micro_batches, dies, ends, not_lowered):
    """(15.48 - 1) * 4 images of a micro-batch fit."""

    def needs(images):
        images //= micro_batches
        if dies and images > 57:
            return CompilerError(f"{images} images: the process has died")
        return 2**30 + images * 2**28

    compiler = FakeCompiler(needs=needs)
    analyser = analyser_of(digits, compiler, accumulation_steps=micro_batches)
    (train,) = analyser.training_steps(analyser.request_steps())
    before = len(compiler.requests)
    found = analyser.largest_batch(train)
    images, too_many = ends
    assert found.images == images * micro_batches
    assert found.too_many == (too_many and too_many * micro_batches)
    tried = [int(name.split()[4]) for name in compiler.requests[before:]]
    assert 20 // micro_batches not in tried, "what is known is not asked for again"
    assert len(tried) == len(set(tried))
    assert set(compiler.seconds) == {7.0}
    too_large = [n for n in tried if n > 57]
    assert too_large
    assert found.failed_compilations == tuple(
        f"{n} images: the process has died" for n in too_large * dies
    )


def test_what_is_known_not_to_fit_is_told_where_the_next_has_no_answer(
    digits, not_lowered
):
    """What fits takes the compiler minutes, and may take too long."""
    told = []

    def needs(images):
        if 40 < images <= 57:
            return CompilerError(f"{images} images: not compiled in time")
        told.append(images)
        return 2**30 + images * 2**28

    analyser = analyser_of(digits, FakeCompiler(needs=needs))
    (train,) = analyser.training_steps(analyser.request_steps())
    found = analyser.largest_batch(train)
    assert found.failed_compilations
    assert found.images <= 40
    assert found.too_many == min(n for n in told if n > 57)


@pytest.mark.long
def test_a_step_of_another_batch_is_lowered_once(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    steps = LoweredSteps(experiment_of(digits), load_info(str(digits)), 1)
    known = steps.train_step()
    other = steps.other_batch(known, Stage(), 40)
    assert other == steps.train_step(Stage(), 40)
    monkeypatch.setattr(steps, "train_step", None)
    assert steps.other_batch(known, Stage(), 40) == other


def test_what_decides_on_the_step_of_another_batch(tmp_path, monkeypatch):
    def key(program=b"step", images=8):
        program_keys._own_code.cache_clear()
        return program_keys.of_another_batch(program, images)

    known = key()
    assert key() == known
    assert len({known, key(b"another step"), key(images=16)}) == 3
    own = tmp_path / "somebodys_layers.py"
    own.write_text("WIDTH = 1")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("somebodys_layers")
    imported = key()
    own.write_text("WIDTH = 2")
    assert len({known, imported, key()}) == 3
    monkeypatch.delitem(sys.modules, "somebodys_layers")
    assert key() == known
    program_keys._own_code.cache_clear()


def findings_of(digits, compiler, **options) -> Iterator[Any]:
    return report.findings(
        experiment_of(digits),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler,
        reads_data=False,
        **options,
    )


def test_each_finding_comes_as_soon_as_it_is_known(digits, not_lowered):
    compiler = FakeCompiler(holds=["the evaluation step"])
    found = findings_of(digits, compiler)
    assert isinstance(next(found), rows.RunOnSlice)
    assert compiler.requests == [], "what is wrong is told before a compilation"
    train, outlook = next(found), next(found)
    assert compiler.requests == ["the train step", "the evaluation step"]
    assert (train.name, train.fits) == ("train step", True)
    assert outlook.schedule.train_steps == 12
    compiler.answer("the evaluation step")
    assert next(found).name == "evaluation step"
    assert len(compiler.requests) == 2
    assert next(found).images == 56
    assert [*found] == []
    kinds = dict.fromkeys(
        kind.partition(", tiny, 32 px, v3")[0] for kind in compiler.kinds
    )
    assert [*kinds] == ["train step", "evaluation step", "train step of another batch"]


def test_the_largest_batch_is_not_looked_for_where_nobody_asks(digits, not_lowered):
    compiler = FakeCompiler()
    found = [*findings_of(digits, compiler, largest_batch=False)]
    assert isinstance(found[-1], StepReport)
    assert compiler.requests == ["the train step", "the evaluation step"]


@pytest.mark.parametrize("error", [CompilerError("it has died"), KeyboardInterrupt()])
def test_what_goes_wrong_in_the_evaluation_comes_behind_the_training(
    digits, not_lowered, error
):
    compiler = FakeCompiler(
        holds=["the evaluation step"], needs=lambda images: found[0]
    )
    found: list[Any] = [2**30]
    known = findings_of(digits, compiler)
    assert isinstance(next(known), rows.RunOnSlice)
    assert next(known).fits
    assert isinstance(next(known), Outlook)
    found[0] = error
    compiler.answer("the evaluation step")
    with pytest.raises(type(error)):
        next(known)
    assert compiler.requests == ["the train step", "the evaluation step"]


def test_an_interrupted_search_ends_at_once(digits, not_lowered):
    """Of the steps all was told by then."""
    compiler = FakeCompiler(needs=lambda i: 2**30 if i == 20 else KeyboardInterrupt())
    known = findings_of(digits, compiler)
    names = [type(next(known)).__name__ for _ in range(4)]
    assert names == ["RunOnSlice", "StepReport", "Outlook", "StepReport"]
    with pytest.raises(KeyboardInterrupt):
        next(known)
    assert len(compiler.requests) <= 2 + 2


def test_schedule_of_stages(digits):
    stages = [{"until_epoch": 0.06, "resolution": 16}]
    changes = {"progressive": stages, "epochs": 0.12}
    analyser = analyser_of(digits, **changes)
    experiment = experiment_of(
        digits, **{f"experiment.Experiment.{name}": v for name, v in changes.items()}
    )
    assert list(analyser.stages) == [12, 24]
    first, second = analyser.stages.values()

    def schedule(*milliseconds):
        steps = [
            StepReport(
                name="",
                stage=stage,
                compilation=report_of(milliseconds=each, all_reduces=number),
            )
            for stage, each, number in zip(
                (first, second), milliseconds, (25, 75), strict=True
            )
        ]
        return report.schedule_of(experiment, analyser.stages, steps)

    known = Schedule(train_steps=24, epochs=0.12)
    assert schedule(1.0, 4.0) == dataclasses.replace(
        known,
        step_ms=2.5,
        images_per_second=8000.0,
        peak_images_per_second=20000.0,
        hours=pytest.approx(12 * 5 / 3.6e6),
        # Of 50 on average, and twice two hops of 1 us each: four chips are a square.
        all_reduce_ms=pytest.approx(0.2),
    )
    assert schedule(1.0, 4.0).step_ms_with_all_reduces == pytest.approx(2.7)
    hours = schedule(1.0, 4.0).hours_with_all_reduces
    assert hours == pytest.approx(24 * 2.7 / 3.6e6)
    assert schedule(None, 4.0) == known
    assert known.step_ms_with_all_reduces is known.hours_with_all_reduces is None


def test_hosts_are_asked_for_what_needs_most_of_their_cores(digits):
    """Fewest pixels are fed fastest, and made most cheaply: both of one stage."""
    experiment, slice_ = experiment_of(digits), Topology.parse("v3:4x4")  # four hosts
    stages = Stage(resolution=16), Stage(resolution=24), Stage()

    def asked(*milliseconds, costs=(0.5, 1.5, 2.0)):
        steps = [
            StepReport(name="", stage=stage, compilation=report_of(milliseconds=each))
            for stage, each in zip(stages, milliseconds, strict=True)
        ]
        known = dict(zip(stages, costs, strict=False))
        return report.hardest_input(experiment, slice_, steps, known)

    # Cores by stage: 20 images x .5 / 1, x 1.5 / 2, x 2 / 4.
    assert asked(1.0, 2.0, 4.0) == HostInput(slice_, 10_000.0, 1.5)
    assert asked(0.25, 2.0, 4.0) == HostInput(slice_, 80_000.0, 0.5)
    # Where nobody knows what an image costs, most images; where one estimate is
    # missing, nothing is known.
    assert asked(1.0, 2.0, 4.0, costs=()) == HostInput(slice_, 20_000.0, None)
    assert asked(1.0, None, 4.0) == HostInput(slice_, None, 1.5)


def test_a_stage_that_only_warms_up_is_no_program_of_its_own(digits, not_lowered):
    stages = [{"until_epoch": 0.06}, {"until_epoch": 0.12, "warmup_epochs": 0.01}]
    changes = {"progressive": stages, "epochs": 0.12}
    analyser = analyser_of(digits, **changes)
    requests = analyser.request_steps()
    (train,) = analyser.training_steps(requests)
    assert (train.name, train.stage) == ("train step", Stage())
    assert analyser.evaluation_step(requests, [train]).stage is None
    experiment = experiment_of(
        digits, **{f"experiment.Experiment.{name}": v for name, v in changes.items()}
    )
    train = dataclasses.replace(train, compilation=report_of(milliseconds=3.0))
    schedule = report.schedule_of(experiment, analyser.stages, [train])
    assert (schedule.train_steps, schedule.step_ms) == (24, 3.0)


def test_slots_of_frozen_parts_lie_beside_their_stage(digits):
    """They are in HBM, but no arguments of its program."""
    limit = TPUS["v3"].hbm_bytes

    def step(stage, variable_bytes, needed=1000):
        memory = types.SimpleNamespace(arguments=variable_bytes + 50)
        compilation = report_of(needed=needed)
        compilation.memory = memory
        return StepReport(
            name="a step",
            stage=stage,
            lowered=LoweredStep(b"", 20, 32, image_bytes=50),
            compilation=compilation,
        )

    beside = functools.partial(analyser_of(digits)._with_residents, most=900)
    assert beside(step(Stage(), 600)).resident_bytes == 0  # it knows all that learns
    frozen = Stage(frozen=("stem",))
    assert beside(step(frozen, 600)).resident_bytes == 300
    assert beside(step(frozen, 600)).needed_bytes == 1300
    assert beside(step(None, 500)).resident_bytes == 400  # an evaluation
    assert beside(step(frozen, 600, limit - 300)).problem is None
    problem = beside(step(frozen, 600, limit - 299)).problem
    assert problem is not None
    assert "with what lies beside it of the training" in problem.message


def test_what_lies_beside_a_step_that_does_not_fit_alone(digits):
    """The compiler does not say what of it are variables; the program does."""
    limit = TPUS["v3"].hbm_bytes
    step = StepReport(
        name="a step",
        stage=Stage(frozen=("stem",)),
        lowered=LoweredStep(b"", 20, 32, image_bytes=50, variable_bytes=600),
        compilation=report_of(needed=limit + 1),
        problem=rows.Problem(message="needs too much alone"),
    )
    found = analyser_of(digits)._with_residents(step, most=900)
    assert found.resident_bytes == 300
    assert found.needed_bytes == limit + 301
    assert found.problem == step.problem


def test_bytes_of_a_program_s_arguments():
    text = (
        "module @step {\n"
        '  func.func @main(%arg0: tensor<20x32x32x3xui8> loc("XLA_Args"), '
        "%arg1: tensor<20xi32>, %arg2: tensor<3x8xf32> {a = 1 : i32}, "
        "%arg3: tensor<i64>, %arg4: tensor<5xbf16>, %arg5: tensor<7xi1>) -> "
        "(tensor<1000xf32>) {\n"
        "    %0 = call @f(%arg2: tensor<9xf32>)\n"
    )
    assert argument_bytes(text, behind=2) == 3 * 8 * 4 + 8 + 5 * 2 + 7
    assert argument_bytes('"func.func"() <{sym_name = "main"}>') == 0


def test_slots_lie_in_hbm_where_no_stage_lets_all_parts_learn(digits, not_lowered):
    """Model, average and two slots of what learns; the rest is counters."""
    rows = [{"until_epoch": 0.06, "frozen": ("stem", "stage_1")}]
    analyser = analyser_of(digits, progressive=rows, epochs=0.06)
    model = analyser.model
    learning = sum(math.prod(v.shape) for v in model.trainable_variables)
    state = 4 * 2 * (model.count_params() + learning)
    (train,) = analyser.training_steps(analyser.request_steps())
    assert train.stage is not None
    assert train.stage.frozen
    assert state <= train.resident_bytes < state + 100
    assert train.needed_bytes == 2**30 + 20 * 2**28 + train.resident_bytes


def test_all_reduces_are_those_of_the_step_that_has_the_most():
    steps = [
        StepReport(name="", stage=stage, compilation=report_of(all_reduces=number))
        for stage, number in ((Stage(), 2), (Stage(resolution=16), 3), (None, 9))
    ]
    schedule = Schedule(train_steps=24, epochs=0.12)
    topology = Topology.parse("v3")
    run = rows.RunOnSlice(
        variant="tiny",
        resolution=32,
        precision="float32",
        topology=topology,
        global_batch_size=20,
        compiler_versions={},
    )
    outlook = Outlook(schedule, HostInput(topology, None, None))
    found = rows.PreflightReport.of([run, *steps[:2], outlook, *steps[2:]])
    assert [step.all_reduces for step in steps] == [2, 3, 9]
    assert found.all_reduces == 3


def test_arithmetic_of_frozen_parts_is_not_a_floor(digits):
    model = experiment_of(digits).build_model()
    assert forward_equivalents(model, trains=True) == 3
    assert forward_equivalents(model, trains=False) == 2
    frozen = ("stem",)  # of a stage
    assert forward_equivalents(model, trains=True, frozen=frozen) == 1
    model.get_layer("block_0").trainable = False
    assert forward_equivalents(model, trains=True) == 1


def test_a_stage_that_the_trainer_would_refuse(digits):
    rows = [{"until_epoch": 0.06, "mixup_alpha": 0.2}]
    with pytest.raises(UserError, match=r"mixup_alpha, but Experiment\.mixing is None"):
        analyser_of(digits, progressive=rows)


def test_float16_is_not_of_tpus(digits):
    settings = {"experiment.Experiment.precision": "mixed_float16"}
    with pytest.raises(UserError, match="TPUs compute in bfloat16"):
        LoweredSteps(experiment_of(digits, **settings), load_info(str(digits)), 8)


def test_the_layer_that_a_node_belongs_to(digits):
    analyser = analyser_of(digits)
    node = "gradient_tape/tiny_1/block_0_1/squeeze_excite_1/reduce_1/convolution/Conv"
    layers = layers_of(node, analyser.model)
    assert [one.name for one in layers] == ["block_0", "squeeze_excite", "reduce"]
    assert (
        layers[-1]
        is analyser.model.get_layer("block_0")._expansion[-1].forward_layers[0]
    )
    location = analyser.location(node)
    assert location.layer == "block_0/squeeze_excite/reduce (Conv2D)"
    file, line = location.source.split(":")
    assert file == "models/blocks.py"
    source = (ROOT / file).read_text().splitlines()[int(line) - 1 :]
    assert "class SqueezeExcite" in "".join(source[:2])
    assert analyser.location("somewhere/else").layer == "somewhere/else"


def test_reductions_of_a_slice():
    strategy = CompileOnlyStrategy(4)
    assert strategy.num_replicas_in_sync == 4

    def both(x):
        context = tf.distribute.get_replica_context()
        return [
            context.all_reduce(op, x)
            for op in (tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN)
        ]

    step = tf.function(lambda x: strategy.run(both, args=(x,)), jit_compile=True)
    hlo = step.experimental_get_compiler_ir(tf.TensorSpec([3]))(stage="hlo")
    assert hlo.count("replica_groups={{0,1,2,3}}") == 2
    assert hlo.count("divide(") == 1


@pytest.mark.parametrize(
    ("changes", "opened"),
    [
        ({}, ["train", "validation"]),
        ({"reads_data": False}, []),
        # Of machines that may not run yet, and whose batches are not asked for.
        ({"dataset.train_dataset.service": "grpc://nowhere:1"}, []),
    ],
)
def test_data_that_is_read_here_is_opened_before_a_compilation(
    digits, monkeypatch, changes, opened
):
    found = []

    def open_train(experiment, *arguments):
        found.append(experiment.train_split)

    def open_eval(experiment, *arguments):
        found.append(experiment.eval_split)

    monkeypatch.setattr(report.datasets, "train_dataset", open_train)
    monkeypatch.setattr(report.datasets, "eval_dataset", open_eval)
    changes = dict(changes)
    reads_data = changes.pop("reads_data", True)
    compiler = FakeCompiler()
    known = report.findings(
        experiment_of(digits, **changes),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler,
        reads_data=reads_data,
        cpu_ms=1.0,
    )
    assert isinstance(next(known), rows.RunOnSlice)
    assert (found, compiler.requests) == (opened, [])


@pytest.mark.parametrize("reads_data", [True, False])
def test_weights_that_the_trainer_would_refuse(digits, not_lowered, reads_data):
    path = str(digits / "no.safetensors")
    known = report.findings(
        experiment_of(digits, **{"experiment.Experiment.pretrained": path}),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler := FakeCompiler(),
        reads_data=reads_data,
        cpu_ms=1.0,
    )
    if not reads_data:
        assert isinstance(next(known), rows.RunOnSlice)
        return
    with pytest.raises(UserError, match=r"no\.safetensors"):
        next(known)
    assert not compiler.requests
