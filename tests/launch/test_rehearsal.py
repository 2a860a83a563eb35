"""python -m launch.rehearsal: what it runs, what it refuses, what it says."""

import ast
import dataclasses
import json
import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from common.errors import Restart, UserError
from input_pipeline.dataset_info import load_info
from launch.rehearsal import __main__ as command
from launch.rehearsal import pipelines, plan, refusals, rehearse, replication, report
from launch.rehearsal.graph_copy import IN_PROGRAM
from launch.rehearsal.pipelines import Pipeline
from launch.rehearsal.replication import Program
from launch.rehearsal.report import Report
from launch.rehearsal.workers import SliceShape
from tests.support.runs import TINY, config_of, experiment_of
from train.distribution import replica

PROGRESSIVE = "tests/data/train/progressive.gin"


def rehearsal(*arguments):
    command = [sys.executable, "-m", "launch.rehearsal", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False
    )


def settings(digits, gin_file=TINY):
    data = f"--gin_param=experiment.Experiment.data_dir='{digits}'"
    return f"--gin_file={gin_file}", data


def experiment(data_dir, **changes):
    named = {f"experiment.Experiment.{name}": value for name, value in changes.items()}
    return experiment_of(data_dir, **named)


def test_a_plan_has_the_programs_of_the_run_on_smaller_batches(digits):
    meant = experiment_of(digits, gin_file=PROGRESSIVE)
    made = plan.make(
        meant, load_info(str(digits)), SliceShape(2, 2), steps=4, images_per_core=2
    )
    short = config_of(digits, gin_file=PROGRESSIVE, **as_changes(made)).experiment
    info = load_info(str(digits))
    assert short.strategy == "tpu"
    assert (short.global_batch_size, short.eval_batch_size) == (8, 8)
    assert list(short.stages(info)) == [4, 8, 12]
    assert [*short.stages(info).values()] == [*meant.stages(info).values()]
    assert short.steps_per_loop == 2
    assert short.eval_interval(info) >= 12
    assert info.split(short.eval_split).total == 500


def test_a_plan_has_no_stage_behind_the_row_that_ends_the_run(digits):
    """Such as that of a recipe in which some parts never learn."""
    rows = [{"until_epoch": 1.0}, {"until_epoch": 3.0, "frozen": ("stem",)}]
    meant = experiment(digits, progressive=rows, epochs=3.0)
    info = load_info(str(digits))
    made = plan.make(meant, info, SliceShape(1, 2), steps=4, images_per_core=2)
    short = config_of(digits, **as_changes(made)).experiment
    assert made.stages == len(meant.stages(info)) == 2
    assert list(short.stages(info)) == [4, 8]
    assert [*short.stages(info).values()] == [*meant.stages(info).values()]


def as_changes(made):
    pairs = (line.split(" = ", 1) for line in made.bindings)
    return {name: ast.literal_eval(value) for name, value in pairs}


def test_a_plan_keeps_micro_batches_and_batches_that_are_small(digits):
    meant = experiment(digits, accumulation_steps=5, eval_split="validation[1shard:]")
    info = load_info(str(digits))
    made = plan.make(meant, info, SliceShape(1, 2), steps=1, images_per_core=8)
    assert made.images_per_core == 2  # of 20 images, on 2 replicas in 5 parts
    changes = as_changes(made)
    assert changes["experiment.Experiment.global_batch_size"] == 20
    assert changes["experiment.Experiment.steps_per_loop"] == 1
    assert changes["experiment.Experiment.eval_split"] == "validation[1shard:2shard]"


@pytest.mark.parametrize(
    ("data_dir", "hosts", "shared", "refused"),
    [
        ("gs://bucket/digits", 4, (), False),
        ("/data/digits", 1, (), False),
        ("/data/digits", 4, (), True),
        ("/data/digits", 4, ("/data/",), False),
        ("/database/digits", 4, ("/data",), True),
        ("/data/digits", 4, ("/data/digits",), False),
        ("/data/../digits", 4, ("/data",), True),
        ("data/digits", 4, ("data",), True),
    ],
)
def test_data_that_other_hosts_lack(data_dir, hosts, shared, refused):
    lines = [*refusals.local_data(experiment(data_dir), SliceShape(hosts, 8), shared)]
    assert [data_dir in line and "4 hosts" in line for line in lines] == [
        True
    ] * refused


def test_batches_that_the_replicas_do_not_divide():
    (line,) = refusals.not_divided(experiment("gs://b/d"), SliceShape(2, 4))
    assert "global_batch_size = 20 does not divide by the 8 replicas" in line
    assert [*refusals.not_divided(experiment("gs://b/d"), SliceShape(2, 2))] == []


def of(dataset, hosts=2):
    return Pipeline("training", lambda context: dataset, hosts, hosts)


def numbers():
    return tf.data.Dataset.range(4)


def twice(number):
    return tf.numpy_function(lambda n: 2 * n, [number], tf.int64)


@pytest.mark.parametrize(
    ("dataset", "found"),
    [
        (numbers().map(lambda n: 2 * n), None),
        (numbers().map(twice), "PyFunc"),
        (
            numbers().flat_map(
                lambda n: numbers().map(
                    lambda m: tf.py_function(lambda k: k, [m], tf.int64)
                )
            ),
            "EagerPyFunc",
        ),
        (
            tf.data.Dataset.from_generator(
                lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int64)
            ),
            "PyFunc",
        ),
    ],
    ids=["none", "numpy_function", "nested py_function", "from_generator"],
)
def test_python_in_a_pipeline(dataset, found):
    lines = [*refusals.python_in(of(dataset))]
    assert len(lines) == (found is not None)
    assert all(f"the training pipeline calls Python ({found}:" in s for s in lines)
    assert [*refusals.python_in(of(dataset, hosts=1))] == []


@pytest.mark.parametrize(
    ("hosts", "known", "refused"),
    [(2, [], True), (1, [], False), (2, ["tests/data"], False)],
)
def test_a_local_file_in_a_pipeline(hosts, known, refused):
    path = "tests/data/train/tiny.gin"
    read = numbers().map(lambda n: tf.io.read_file(path))
    lines = [*refusals.local_files(of(read, hosts), known)]
    assert len(lines) == refused
    assert all(f"the training pipeline names {path} of this" in s for s in lines)


def test_a_variable_in_a_pipeline():
    variable = tf.Variable(tf.constant(2, tf.int64))
    (line,) = refusals.copied_state(of(numbers().map(lambda n: variable * n)))
    assert "the training pipeline holds a variable" in line
    assert [*refusals.copied_state(of(numbers()))] == []


def test_operations_without_a_kernel():
    ops = {"AddV2": 2, "StringJoin": 1, "CrossReplicaSum": 1}
    program = Program(2, ops, {kind: f"net/{kind}" for kind in ops}, 0)
    (line,) = refusals.without_kernel([program, program])
    assert "StringJoin (net/StringJoin)" in line


def test_arguments_of_a_function_are_no_operations():
    program = FuncGraph("program")
    with program.as_default():
        mark = tf.compat.v1.AttrValue(s=b"cluster")
        with program._attr_scope({IN_PROGRAM: mark}):  # as tpu.replicate does
            tf.while_loop(lambda n: n < 3, lambda n: [n + 1], [tf.constant(0)])
    kinds = [op.type for op in replication._program_ops(program)]
    assert {"AddV2", "Less"} <= set(kinds)
    assert "Placeholder" not in kinds


def test_groups_that_a_small_slice_has_not():
    (line,) = refusals.without_groups(experiment("gs://b/d"), SliceShape(2, 4))
    assert "groups above 8 replicas alone" in line
    assert replica._authors_group_size(8) == 1 < replica._authors_group_size(9)
    assert [*refusals.without_groups(experiment("gs://b/d"), SliceShape(4, 4))] == []
    of_two = experiment("gs://b/d", batch_norm=2)
    assert [*refusals.without_groups(of_two, SliceShape(2, 4))] == []


def test_pipelines_that_differ_between_here_and_there():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])

    def now():
        return tf.cast(1e6 * tf.timestamp(), tf.int64)

    def make(seed):
        images = tf.data.Dataset.range(4).map(
            lambda n: {"label": n, "image": n + seed()}
        )
        return Pipeline("training", lambda context: images.batch(1), 1, 2)

    assert [*pipelines.differences(make(lambda: 1), strategy)] == []
    lines = [*pipelines.differences(make(now), strategy)]
    assert lines[0] == (
        "the training pipeline of host 0 gives another image there than here, in "
        "batch 0 of its core 0"
    )
    assert len(lines) == 2 * pipelines.BATCHES


def test_a_split_of_one_batch_is_compared():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    images = tf.data.Dataset.range(2).map(lambda n: {"image": n}).batch(1)
    pipeline = Pipeline("evaluation", lambda context: images, 1, 2)
    assert [*pipelines.differences(pipeline, strategy)] == []


def test_a_worker_that_is_lost_is_no_fault_of_a_pipeline(monkeypatch):
    def fails(*_):
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    monkeypatch.setattr(pipelines, "_of_replicas", fails)
    strategy = tf.distribute.get_strategy()
    (line,) = pipelines.differences(of(numbers()), strategy)
    assert "the training pipeline does not run on the workers" in line
    monkeypatch.setattr(pipelines.workers, "lost", lambda: "worker 1")
    with pytest.raises(Restart, match="worker 1 is gone"):
        next(pipelines.differences(of(numbers()), strategy))


def test_a_folder_with_checkpoints_is_not_rehearsed_in(tmp_path):
    (tmp_path / "ckpt-4.index").touch()
    with pytest.raises(UserError, match="has checkpoints already: name a new folder"):
        rehearse.rehearse(
            [TINY], [], SliceShape(1, 2), str(tmp_path), steps=4, images_per_core=2
        )


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--hosts=100000", "100,000 is more than 64: a process each"),
        ("--cores=9", "9 is more than 8: no host of a TPU has more"),
        ("--cores=0", "0 is not 1 or more"),
    ],
)
def test_slices_that_nobody_has(flag, why, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([f"--gin_file={TINY}", "--cores=1", flag])
    assert why in capsys.readouterr().err


def test_what_a_report_says():
    found = Report(SliceShape(4, 2), "2.20.0", {"input": "compared"})
    assert report.to_json(found)["replicas"] == 8
    text = report.describe(found)
    assert text.startswith("4 hosts x 2 cores: ")
    assert "input: compared" in text
    assert "Nothing was found" in text
    refused = dataclasses.replace(found, refused=["no such thing"])
    assert "A slice would refuse:\n- no such thing" in report.describe(refused)
    assert "HBM" in text.split("Not rehearsed:")[1]


@pytest.mark.slow
def test_a_config_on_four_hosts(digits):
    """Real records: what the workers make of them is what is made here."""
    done = rehearsal(
        *settings(digits, PROGRESSIVE),
        *("--hosts=4", "--cores=2", f"--shared_path={digits}", "--json"),
        "--gin_param=experiment.Experiment.global_batch_size=24",
        "--gin_param=experiment.Experiment.eval_batch_size=24",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["refused"] == []
    assert found["rehearsed"]["input"].endswith(
        "equal those that are made here, bit for bit"
    )
    assert "4 steps in each of 3 stages" in found["rehearsed"]["training"]
    assert "ckpt-12" in found["rehearsed"]["training"]
    assert "500 images" in found["rehearsed"]["evaluation"]


@pytest.mark.slow
def test_a_config_that_a_pod_refuses(digits):
    python = "--gin_file=tests/data/launch/python_augment.gin"
    done = rehearsal(*settings(digits), python, "--hosts=2", "--cores=1")
    assert done.returncode == 1, done.stderr
    assert "is a folder of this machine" in done.stdout
    assert "the training pipeline calls Python (PyFunc" in done.stdout
    assert "evaluation pipeline calls" not in done.stdout


@pytest.mark.slow
def test_a_step_that_xla_has_no_kernel_for(digits):
    spelled = "--gin_file=tests/data/launch/spelled_mixing.gin"
    done = rehearsal(*settings(digits), spelled, "--cores=2")
    assert done.returncode == 1, done.stderr
    assert "the step has an operation AsString" in done.stdout


@pytest.mark.slow
def test_one_host_may_call_python_and_needs_no_bucket(digits):
    python = "--gin_file=tests/data/launch/python_augment.gin"
    done = rehearsal(*settings(digits), python, "--cores=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was found" in done.stdout
