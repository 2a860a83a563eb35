import concurrent.futures
import dataclasses
import types
from typing import Any

import pytest
import tensorflow as tf

from common.accelerators import TPUS
from common.errors import UserError
from input_pipeline.records import load_info
from preflight import report
from preflight.compile_only import VirtualSlice
from preflight.lowered_steps import Program, layers_of
from preflight.steps import Judge, Step
from tests.support.runs import experiment_of
from tpu_compiler import Compiler, CompilerError, Topology
from train.config import ROOT
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
    judge = Judge(
        experiment, load_info(str(digits)), Topology.parse("v3"), FakeCompiler()
    )
    first, second = judge.stages.values()
    program = judge.programs.train_step(first)
    assert (program.resolution, program.images) == (16, 20)
    assert b"tensor<20x16x16x3xui8>" in program.stablehlo
    assert stage_form(second, judge.programs.model).resolution == 32
    # Nor does it depend on what was lowered before: the compiler's cache goes by it.
    assert judge.programs.train_step(first) == program


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
        collectives=[
            types.SimpleNamespace(kind="all-reduce", count=all_reduces),
            types.SimpleNamespace(kind="all-gather", count=1),
        ],
    )


def judge_of(digits, compiler=None, **changes):
    changes = {f"experiment.Experiment.{name}": v for name, v in changes.items()}
    return Judge(
        experiment_of(digits, **changes),
        load_info(str(digits)),
        Topology.parse("v3"),
        compiler or FakeCompiler(),
        timeout_seconds=7.0,
    )


@pytest.mark.parametrize(("micro_batches", "dies"), [(1, False), (2, False), (1, True)])
def test_largest_batch(digits, micro_batches, dies, monkeypatch):
    compiler = FakeCompiler(micro_batches, dies)
    judge = judge_of(digits, compiler, accumulation_steps=micro_batches)

    def program(stage=None, images=20):
        return Program(str(images).encode(), images, 32)

    monkeypatch.setattr(judge.programs, "train_step", program)
    monkeypatch.setattr(judge.programs, "eval_step", program)
    train, _ = judge.steps()
    before = len(compiler.asked)
    # (15.48 - 1) * 4 images fit.
    assert judge.largest_batch(train) == 56 * micro_batches
    tried = [images for images, _ in compiler.asked[before:]]
    assert 20 // micro_batches not in tried, "what is known is not asked for again"
    assert len(tried) == len(set(tried)) < 8
    assert {seconds for _, seconds in compiler.asked} == {7.0}
    too_many = [n for n in tried if n > 56]
    assert too_many
    assert judge.unanswered == [
        f"the train step with {n} images a replica: the process has died"
        for n in too_many * dies
    ]


def test_schedule_of_stages(digits):
    rows = [{"until_epoch": 0.06, "resolution": 16}]
    judge = judge_of(digits, progressive=rows, epochs=0.12)
    assert list(judge.stages) == [12, 24]
    first, second = judge.stages.values()

    def steps(*milliseconds):
        answers = [
            report_of(milliseconds=each, all_reduces=n)
            for each, n in zip(milliseconds, (3, 2), strict=True)
        ]
        return [
            Step("", stage, None, answer, None)
            for stage, answer in zip((first, second), answers, strict=True)
        ]

    known = {"train_steps": 24, "epochs": 0.12, "all_reduces": 3}
    assert report.schedule(judge, steps(1.0, 4.0)) == known | {
        "estimated_step_ms": 2.5,
        "images_per_second": 8000.0,
        "peak_images_per_second": 20000.0,
        "hours": pytest.approx(12 * 5 / 3.6e6),
    }
    unknown = report.schedule(judge, steps(None, 4.0))
    assert unknown == known | dict.fromkeys(
        ["estimated_step_ms", "images_per_second", "peak_images_per_second", "hours"]
    )


def test_arithmetic_of_frozen_parts_is_not_a_floor(digits):
    step = Step("", Stage(), None, None, None)
    model = experiment_of(digits).build_model()
    assert report.passes(step, model) == 3
    assert report.passes(dataclasses.replace(step, stage=None), model) == 2
    model.get_layer("block_0").trainable = False
    assert report.passes(step, model) == 1


def test_a_stage_that_the_trainer_would_refuse(digits):
    rows = [{"until_epoch": 0.06, "mixup_alpha": 0.2}]
    with pytest.raises(UserError, match=r"mixup_alpha, but Experiment\.mixing is None"):
        judge_of(digits, progressive=rows)


def test_the_layer_that_a_node_belongs_to(digits):
    judge = judge_of(digits)
    node = "gradient_tape/tiny_1/block_0_1/squeeze_excite_1/reduce_1/convolution/Conv"
    layers = layers_of(node, judge.programs.model)
    assert [one.name for one in layers] == ["block_0", "squeeze_excite", "reduce"]
    assert (
        layers[-1]
        is judge.programs.model.get_layer("block_0")._expansion[-1].forward_layers[0]
    )
    place = judge.place(node)
    assert place["layer"] == "block_0/squeeze_excite/reduce (Conv2D)"
    file, line = place["source"].split(":")
    assert file == "models/blocks.py"
    source = (ROOT / file).read_text().splitlines()[int(line) - 1 :]
    assert "class SqueezeExcite" in "".join(source[:2])
    assert judge.place("somewhere/else")["layer"] == "somewhere/else"


def test_reductions_of_a_slice():
    strategy = VirtualSlice(4)
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


SETTINGS = {
    "dataset.train_dataset.shuffle_buffer": 100,
    "dataset.eval_dataset.max_bad_records": 7,
}
