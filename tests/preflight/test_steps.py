import concurrent.futures
import dataclasses
import functools
import types
from typing import Any

import pytest
import tensorflow as tf

from common.accelerators import TPUS
from common.errors import UserError
from common.project import ROOT
from input_pipeline.dataset_info import load_info
from preflight import report, rows
from preflight.compile_only import CompileOnlyStrategy
from preflight.floors import forward_equivalents
from preflight.lowered_steps import LoweredSteps, layers_of
from preflight.outlook import HostInput, Schedule
from preflight.rows import LoweredStep, StepReport
from preflight.steps import StepAnalyser
from tests.support.runs import experiment_of
from tpu_compiler import Compiler, CompilerError, Topology
from tpu_compiler.costs import Collective
from train.stage_rows import Stage
from train.stages import stage_form


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


class FakeCompiler(Compiler):
    """Needs 1 GiB and 0.25 GiB an image of a micro-batch; may die of too many."""

    def __init__(self, micro_batches=1, dies=False):
        self.asked, self.micro_batches, self.dies = [], micro_batches, dies

    def compile(
        self, module, topology, num_replicas=1, *, timeout_seconds=0.0, name=""
    ):
        images = int(module) // self.micro_batches
        self.asked.append((images, timeout_seconds))
        answer = concurrent.futures.Future()
        found = report_of(needed=2**30 + images * 2**28)
        if self.dies and not found.compiled:
            answer.set_exception(CompilerError(f"{name}: the process has died"))
        else:
            answer.set_result(found)
        return answer


def report_of(*, needed=0, milliseconds=None, all_reduces=0) -> Any:
    limit = TPUS["v3"].hbm_bytes
    fits = needed <= limit
    return types.SimpleNamespace(
        verdict="compiled" if fits else "out_of_memory",
        compiled=fits,
        needed_bytes=needed,
        hbm_bytes=limit,
        message=f"needs {needed}",
        largest_buffers=(),
        memory=None,
        costs=None,
        milliseconds=milliseconds,
        topology=Topology.parse("v3:2x2"),
        collectives=[
            Collective("all-reduce", all_reduces, 0, 8, runs=all_reduces, run_bytes=0),
            Collective("all-gather", 1, 0, 8, runs=1, run_bytes=0),
        ],
    )


def analyser_of(digits, compiler=None, **changes):
    changes = {f"experiment.Experiment.{name}": v for name, v in changes.items()}
    return StepAnalyser(
        experiment_of(digits, **changes),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler or FakeCompiler(),
        timeout_seconds=7.0,
    )


@pytest.mark.parametrize(("micro_batches", "dies"), [(1, False), (2, False), (1, True)])
def test_largest_batch(digits, micro_batches, dies, monkeypatch):
    compiler = FakeCompiler(micro_batches, dies)
    analyser = analyser_of(digits, compiler, accumulation_steps=micro_batches)

    def program(stage=None, images=20):
        return LoweredStep(str(images).encode(), images, 32)

    monkeypatch.setattr(analyser.lowered_steps, "train_step", program)
    monkeypatch.setattr(analyser.lowered_steps, "eval_step", program)
    train, _ = analyser.analyse_steps()
    before = len(compiler.asked)
    # (15.48 - 1) * 4 images fit.
    found = analyser.largest_batch(train)
    assert found.images == 56 * micro_batches
    tried = [images for images, _ in compiler.asked[before:]]
    assert 20 // micro_batches not in tried, "what is known is not asked for again"
    assert len(tried) == len(set(tried)) < 8
    assert {seconds for _, seconds in compiler.asked} == {7.0}
    too_many = [n for n in tried if n > 56]
    assert too_many
    assert found.failed_compilations == tuple(
        f"the train step with {n} images a replica: the process has died"
        for n in too_many * dies
    )


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


def test_a_stage_that_only_warms_up_is_no_program_of_its_own(digits, monkeypatch):
    stages = [{"until_epoch": 0.06}, {"until_epoch": 0.12, "warmup_epochs": 0.01}]
    changes = {"progressive": stages, "epochs": 0.12}
    analyser = analyser_of(digits, **changes)

    def program(stage=None):
        return LoweredStep(b"20", 20, 32)

    monkeypatch.setattr(analyser.lowered_steps, "train_step", program)
    monkeypatch.setattr(analyser.lowered_steps, "eval_step", program)
    train, evaluation = analyser.analyse_steps()
    assert (train.name, train.stage, evaluation.stage) == ("train step", Stage(), None)
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


def test_all_reduces_are_those_of_the_step_that_has_the_most():
    steps = [
        StepReport(name="", stage=stage, compilation=report_of(all_reduces=number))
        for stage, number in ((Stage(), 2), (Stage(resolution=16), 3), (None, 9))
    ]
    schedule = Schedule(train_steps=24, epochs=0.12)
    found = rows.PreflightReport(
        variant="tiny",
        resolution=32,
        precision="float32",
        topology=Topology.parse("v3"),
        global_batch_size=20,
        steps=steps,
        largest_batch=None,
        schedule=schedule,
        host_input=HostInput(Topology.parse("v3"), None, None),
    )
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


class Enough(Exception):  # noqa: N818 - nothing is wrong
    """What comes behind it is not of interest."""


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

    def stop(analyser):
        raise Enough

    monkeypatch.setattr(report.datasets, "train_dataset", open_train)
    monkeypatch.setattr(report.datasets, "eval_dataset", open_eval)
    monkeypatch.setattr(StepAnalyser, "analyse_steps", stop)
    changes = dict(changes)
    reads_data = changes.pop("reads_data", True)
    with pytest.raises(Enough):
        report.preflight(
            experiment_of(digits, **changes),
            load_info(str(digits)),
            Topology.parse("v3"),
            FakeCompiler(),
            reads_data=reads_data,
            cpu_ms=1.0,
        )
    assert found == opened
