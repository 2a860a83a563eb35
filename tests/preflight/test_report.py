import dataclasses
import json
import math
import os
import re
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from benchmarks.support import results
from common.errors import UserError
from common.project import ROOT
from input_pipeline.dataset_info import load_info
from models import complexity
from models.batch_norm import BatchNormalization
from preflight import report, report_json, text
from preflight.rows import PreflightReport
from tests.support.runs import bindings, experiment_of
from tpu_compiler import Compiler, Topology
from train import config

LARGE = {
    "experiment.Experiment.global_batch_size": 256,
    "experiment.Experiment.eval_batch_size": 256,
}


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    with Compiler(1, cache_dir=tmp_path_factory.mktemp("cache")) as compiler:
        yield compiler


@pytest.fixture(scope="module")
def look(digits, compiler):
    """Function: a slice and changes of the recipe -> the report and its JSON."""

    def run(topology, changes=LARGE, build_model=None, **options):
        experiment = experiment_of(digits, **changes)
        if build_model is not None:
            experiment = dataclasses.replace(experiment, build_model=build_model)
        found = PreflightReport.of(
            report.findings(
                experiment,
                load_info(str(digits)),
                Topology.parse(topology),
                compiler,
                **{"largest_batch": False, "reads_data": False, **options},
            )
        )
        return found, report_json.to_json(found)

    return run


def text_of(found):
    """All that the command prints of a report."""
    parts = [found.run, *found.steps[:-1], found.outlook, found.steps[-1]]
    parts += [found.largest_batch] if found.largest_batch else []
    return "\n".join([*map(text.describe, parts), text.limits()])


@pytest.fixture(scope="module")
def slice_of_32(look):
    return look("v3:4x4", cpu_ms=2.0)


# What other people's programs may read: no key goes, and none is renamed.
KEYS = [
    "variant",
    "resolution",
    "precision",
    "topology",
    "chips",
    "replicas",
    "global_batch_size",
    "compiles",
    "fits",
    "hbm_bytes",
    "hbm_limit_bytes",
    "largest_global_batch_size",
    "too_large_global_batch_size",
    "steps",
    "train_steps",
    "epochs",
    "all_reduces",
    "estimated_step_ms",
    "images_per_second",
    "peak_images_per_second",
    "hours",
    "our_all_reduce_ms",
    "step_ms_with_our_all_reduces",
    "hours_with_our_all_reduces",
    "hosts",
    "images_per_second_per_host",
    "input",
    "unanswered",
    "covers",
    "leaves_out",
    "compiler",
]
LOWERED_KEYS = [
    "name",
    "compiles",
    "fits",
    "problem",
    "resolution",
    "images_per_replica",
    "hbm_bytes",
    "hbm_bytes_beside",
    "compile_seconds",
]
STEP_KEYS = [
    "hbm_bytes_by_kind",
    "estimated_step_ms",
    "floors_ms",
    "bound",
    "all_reduces",
    "our_all_reduce_ms",
    "our_all_reduces",
    "collectives",
    "without_estimate",
    "dynamic_shapes",
    "loops_of_unknown_length",
    "costliest",
    "hlo",
]


@pytest.mark.long
def test_keys_of_the_json(slice_of_32):
    _, report = slice_of_32
    assert list(report) == KEYS
    for step in report["steps"]:
        assert list(step) == LOWERED_KEYS + STEP_KEYS
    assert json.loads(json.dumps(report)).keys() == report.keys()


def test_a_slice_compiles_and_fits(slice_of_32):
    _, report = slice_of_32
    assert (report["compiles"], report["fits"]) == (True, True)
    assert (report["chips"], report["replicas"], report["hosts"]) == (16, 32, 4)
    train, evaluation = report["steps"]
    assert train["name"] == "train step"
    assert evaluation["name"] == "evaluation step"
    assert (train["images_per_replica"], train["resolution"]) == (8, 32)
    assert train["problem"] is evaluation["problem"] is None
    most = max(train["hbm_bytes"], evaluation["hbm_bytes"])
    assert 0 < report["hbm_bytes"] == most < report["hbm_limit_bytes"]
    assert report["hbm_limit_bytes"] == 15854 * 2**20
    kinds = train["hbm_bytes_by_kind"]
    whole = sum(kinds.values()) - kinds["peak"] - 2 * kinds["aliased"]
    assert train["hbm_bytes"] == whole
    # The optimizer's slots lie there while an evaluation runs, whose images have four
    # times the bytes.
    images = evaluation["images_per_replica"] * 4 - train["images_per_replica"]
    arguments = evaluation["hbm_bytes_by_kind"]["arguments"]
    beside = kinds["arguments"] - arguments + images * 3 * 32 * 128  # lanes
    assert evaluation["hbm_bytes_beside"] == beside
    # As much as of two slots beside two sets of weights, batch norm's statistics apart.
    assert 0.4 * kinds["aliased"] < beside < 0.5 * kinds["aliased"]
    kinds = evaluation["hbm_bytes_by_kind"]
    whole = sum(kinds.values()) - kinds["peak"] - 2 * kinds["aliased"]
    assert evaluation["hbm_bytes"] == whole + beside
    assert train["dynamic_shapes"] == train["loops_of_unknown_length"] == []


@pytest.mark.long
def test_the_gradients_all_reduce_is_compiled(slice_of_32, look, digits):
    """One for all gradients, loss and statistics; two for each shared batch norm."""
    model = experiment_of(digits).build_model()
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, BatchNormalization)
    ]
    _, report = slice_of_32
    train, evaluation = report["steps"]
    sizes = {(one["group_size"], one["count"]) for one in train["collectives"]}
    assert sizes == {(32, 1), (8, 2 * len(layers))}
    assert report["all_reduces"] == train["all_reduces"] == 1 + 2 * len(layers)
    assert evaluation["all_reduces"] == 0

    _, alone = look(
        "v3:4x4", LARGE | {"experiment.Experiment.batch_norm": "per_replica"}
    )
    [reduction] = alone["steps"][0]["collectives"]
    values = 1 + sum(math.prod(weight.shape) for weight in model.weights)
    assert reduction == {
        "kind": "all-reduce",
        "count": 1,
        "operand_bytes": 4 * values,
        "group_size": 32,
        "runs": 1,
        "run_bytes": 4 * values,
        "fused": 0,
    }


def test_time_and_its_bounds(slice_of_32, digits):
    _, report = slice_of_32
    step = report["steps"][0]
    macs = complexity.of_model(experiment_of(digits).build_model(), 32).macs
    floor = 1e3 * 6 * macs * 8 / 61.5e12
    assert step["floors_ms"]["compute"] == pytest.approx(floor)
    assert step["bound"] == "memory"
    assert step["estimated_step_ms"] > step["floors_ms"]["memory"] > floor
    milliseconds = report["estimated_step_ms"]
    assert milliseconds == step["estimated_step_ms"]
    assert report["images_per_second"] == pytest.approx(256e3 / milliseconds)
    assert report["train_steps"] == 1
    assert report["hours"] == pytest.approx(milliseconds / 3.6e6)
    fed = report["images_per_second_per_host"]
    assert fed == pytest.approx(report["images_per_second"] / 4)
    assert report["input"] == {
        "by_fleet": False,
        "cpu_ms_per_image": 2.0,
        "cores_per_host": 96,
        "cores_needed_per_host": pytest.approx(fed * 2e-3),
        "images_per_second_per_host": 48_000,
        "keeps_up": False,
    }


def test_all_reduces_have_an_estimate_of_ours(slice_of_32, look):
    """Apart from the compiler's: 32 replicas are 16 chips, eight are a host's four."""
    _, report = slice_of_32
    train, evaluation = report["steps"]
    norms, gradients = train["our_all_reduces"]
    of_norms, of_gradients = train["collectives"]
    assert (norms["group_size"], gradients["group_size"]) == (8, 32)
    link = 340e12 / 4096
    for found, one, chips, hops in (
        (norms, of_norms, 4, 2),
        (gradients, of_gradients, 16, 6),
    ):
        assert (found["runs"], found["bytes"]) == (one["count"], one["operand_bytes"])
        sent = found["bytes"] * (chips - 1) / chips
        seconds = 2 * (found["runs"] * hops * 1e-6 + sent / (2 * link))
        assert found["milliseconds"] == pytest.approx(1e3 * seconds)
    ours = norms["milliseconds"] + gradients["milliseconds"]
    assert train["our_all_reduce_ms"] == report["our_all_reduce_ms"] == ours
    with_them = report["estimated_step_ms"] + ours
    assert report["step_ms_with_our_all_reduces"] == pytest.approx(with_them)
    assert report["hours_with_our_all_reduces"] == pytest.approx(with_them / 3.6e6)
    assert evaluation["our_all_reduce_ms"] == 0
    assert evaluation["our_all_reduces"] == []


def with_collectives(found, change):
    """Return a report with other collectives in its train step."""
    step, *others = found.steps
    known = step.compilation
    costs = dataclasses.replace(
        known.costs, collectives=tuple(map(change, known.collectives))
    )
    compilation = dataclasses.replace(known, costs=costs)
    step = dataclasses.replace(step, compilation=compilation)
    return dataclasses.replace(found, steps=[step, *others])


def test_one_replica_has_no_all_reduces(slice_of_32):
    report = slice_of_32[0]
    found = with_collectives(
        report, lambda one: dataclasses.replace(one, kind="all-gather")
    )
    alone = found.steps[0]
    assert alone.milliseconds == report.steps[0].milliseconds
    assert (alone.all_reduce_ms, alone.all_reduce_estimates) == (0, ())
    assert "own estimate" not in text_of(found)


def test_all_reduces_that_were_taken_apart_have_no_estimate(slice_of_32, digits):
    """Their time is not none at all: what the compiler says of the rest stays."""
    before = slice_of_32[0]
    found = with_collectives(before, lambda one: dataclasses.replace(one, fused=1))
    train = found.steps[0]
    assert train.all_reduces == before.steps[0].all_reduces
    assert (train.all_reduce_ms, train.all_reduce_estimates) == (None, ())
    schedule = report.schedule_of(
        experiment_of(digits, **LARGE), {1: train.stage}, [train]
    )
    assert schedule.step_ms == pytest.approx(before.outlook.schedule.step_ms)
    assert (schedule.all_reduce_ms, schedule.hours_with_all_reduces) == (None, None)
    found = dataclasses.replace(
        found, outlook=dataclasses.replace(found.outlook, schedule=schedule)
    )
    said = text_of(found)
    assert "the compiler has taken some apart, into 2, of which there is no est" in said
    assert "With all-reduces" not in said
    assert "Estimate: " in said
    assert report_json.to_json(found)["steps"][0]["our_all_reduce_ms"] is None


def test_what_a_person_reads(slice_of_32):
    said = text_of(slice_of_32[0])
    lines = said.splitlines()
    assert lines[0] == (
        "tiny, 32 px, float32: 256 images a step on 32 replicas (8 each)"
    )
    assert lines[1].startswith("v3:4x4: 4 hosts, 16 chips, 15.48 GiB of HBM a replica;")
    assert "libtpu 0.0.52" in lines[1]
    (verdict,) = [line for line in lines if line.startswith("train step: ")]
    ms = slice_of_32[1]["estimated_step_ms"]
    assert (
        f"compiles and fits, {ms:.1f} ms by the compiler's estimate, at least"
        in verdict
    )
    assert "its 96 cores make 48,000 at 2.00 ms of a core each: TOO FEW" in said
    assert "- TPUStrategy was not run" in said
    (ours,) = [line for line in lines if " all-reduces by our own estimate" in line]
    report = slice_of_32[1]
    ms = report["our_all_reduce_ms"]
    assert ours.startswith(f"  {report['all_reduces']} all-reduces by our own estimate")
    assert ours.endswith(f"as the compiler makes none: {ms:.1f} ms")
    step_ms = report["step_ms_with_our_all_reduces"]
    assert f"With all-reduces: {step_ms:.1f} ms a step, " in said


@pytest.mark.long
def test_a_batch_too_large_for_hbm(look):
    size = 2**20
    found, report = look(
        "v3",
        {
            "experiment.Experiment.global_batch_size": size,
            "experiment.Experiment.eval_batch_size": 64,
            "experiment.Experiment.intended": ["large_batch"],
        },
    )
    assert (report["compiles"], report["fits"]) == (True, False)
    train, evaluation = report["steps"]
    assert (train["compiles"], train["fits"]) == (True, False)
    assert evaluation["fits"]
    assert report["hbm_bytes"] > report["hbm_limit_bytes"]
    assert train["problem"]["message"].startswith("needs ")
    assert list(train) == LOWERED_KEYS
    assert list(train["problem"]) == ["message", "largest_buffers"]
    largest = train["problem"]["largest_buffers"]
    assert list(largest[0]) == ["bytes", "shape", "layer"]
    assert largest[0]["bytes"] > 2**30
    assert not any("site-packages" in buffer["layer"] for buffer in largest)
    assert report["estimated_step_ms"] is report["hours"] is None
    said = text_of(found)
    assert f"{size:,} images" in said
    assert "train step: compiles, does NOT fit: needs " in said


def with_layer(layer):
    """Return a `build_model` of one layer behind a linear classifier.

    It is none of ours, and takes no time to build.
    """

    def build_model(**_):
        pixels = keras.Input([32, 32, 3])
        features = keras.layers.GlobalAveragePooling2D()(pixels)
        logits = keras.layers.Dense(10)(features)
        return keras.Model(pixels, layer(logits), name="linear")

    return build_model


class Calls(keras.layers.Layer):
    """Calls the host back, which no TPU can."""

    def call(self, x):
        y = tf.py_function(lambda value: value, [x], x.dtype)
        return tf.ensure_shape(y, x.shape)


class Chooses(keras.layers.Layer):
    """Has as many rows as there are positive sums."""

    def call(self, x):
        rows = tf.boolean_mask(x, tf.reduce_sum(x, axis=1) > 0)
        return x + tf.reduce_sum(rows, axis=0)


def test_an_op_that_xla_has_not_is_named(look):
    found, report = look("v3", build_model=with_layer(Calls(name="calls_back")))
    assert report["compiles"] is False
    assert list(report["steps"][0]) == ["name", "compiles", "fits", "problem"]
    problem = report["steps"][0]["problem"]
    assert list(problem) == ["message", "op", "layer", "source"]
    assert problem["op"] == "EagerPyFunc"
    assert problem["layer"] == "calls_back (Calls)"
    file, line = problem["source"].rsplit(":", 1)
    assert file == "tests/preflight/test_report.py"
    with open(__file__) as source:
        assert "tf.py_function" in source.read().splitlines()[int(line) - 1]
    said = text_of(found)
    assert "train step: does NOT compile: XLA has no EagerPyFunc" in said
    assert "  layer: calls_back (Calls)" in said


class Counts(keras.layers.Layer):
    """Asks for as many numbers as its inputs say."""

    def call(self, x):
        count = tf.cast(tf.reduce_sum(x), tf.int32)
        return x + tf.cast(tf.reduce_sum(tf.range(count)), x.dtype)


def test_a_size_that_has_to_be_known(look):
    _, report = look("v3", build_model=with_layer(Counts(name="counts")))
    problem = report["steps"][0]["problem"]
    assert problem["message"] == "Input 1 to Range must be a compile-time constant"
    assert (problem["op"], problem["layer"]) == ("Range", "counts (Counts)")
    assert problem["source"].startswith("tests/preflight/test_report.py:")


def test_a_dynamic_shape_is_named(look):
    """Forward it compiles, padded to its bound; backward XLA has no name for it."""
    found, report = look("v3", build_model=with_layer(Chooses(name="chooses")))
    train, evaluation = report["steps"]
    assert (train["compiles"], evaluation["compiles"]) == (False, True)
    assert "of a dynamic shape, tensor<?x" in train["problem"]["message"]
    assert "bounds<256>" in train["problem"]["message"]
    layer = {"layer": "chooses (Chooses)"}
    assert train["problem"].items() >= layer.items()
    assert evaluation["floors_ms"].keys() == {"memory"}, "its arithmetic is not known"
    shape = evaluation["dynamic_shapes"][0]
    assert list(shape) == ["op", "shape", "layer", "source"]
    assert shape.items() >= layer.items()
    assert "bounds<256" in shape["shape"]
    said = text_of(found)
    assert "train step: does NOT compile: an operation of a dynamic shape" in said
    evaluation = said.partition("\nevaluation step: ")[2].splitlines()
    assert any(
        line.startswith("  a size that depends on values") for line in evaluation
    )


@pytest.mark.parametrize(
    ("hours", "said"),
    [(100.0, "100.0 hours"), (0.5, "30.0 minutes"), (0.001, "3.6 seconds")],
)
def test_durations(hours, said):
    assert text._duration(hours) == said


def test_replicas_that_do_not_divide_the_batch(look):
    with pytest.raises(
        Exception, match="global_batch_size = 20 does not divide by the 8"
    ):
        look("v3:2x2", {})


@pytest.mark.slow
def test_the_largest_batch(look):
    changes = {
        "experiment.Experiment.global_batch_size": 4096,
        "experiment.Experiment.eval_batch_size": 64,
        "experiment.Experiment.intended": ["large_batch"],
    }
    found, report = look("v3", changes, largest_batch=True)
    largest = report["largest_global_batch_size"]
    too_large = report["too_large_global_batch_size"]
    assert found.largest_batch.images == largest
    assert 4096 < largest < too_large <= 1.6 * largest
    assert f"Largest batch known to fit: {largest:,}, " in text_of(found)
    for size, fits in ((largest, True), (too_large, False)):
        changes["experiment.Experiment.global_batch_size"] = size
        assert look("v3", changes)[0].fits is fits


@pytest.mark.slow
def test_the_command(digits, tmp_path):
    def run(*arguments):
        settings = bindings(digits, LARGE)
        return subprocess.run(
            [sys.executable, "-m", "preflight", "--no_largest_batch"]
            + ["--gin_file=tests/data/train/tiny.gin"]
            + [f"--gin_param={setting}" for setting in settings]
            + list(arguments),
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    done = run("--topology=v3:4x4", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["input"]["cpu_ms_per_image"] > 0
    assert {
        "compiles",
        "fits",
        "hbm_bytes",
        "estimated_step_ms",
        "all_reduces",
        "replicas",
    } <= report.keys()
    setting = "randaugment.rand_augment.magnitude"
    unused = run("--topology=v3:4x4", f"--gin_param={setting} = 1")
    assert unused.returncode == 2
    assert "rand_augment.magnitude' has no effect" in unused.stderr
    elsewhere = run(
        "--topology=v3:4x4", "--gin_param=experiment.Experiment.data_dir='x'"
    )
    assert elsewhere.returncode == 2
    assert "--train_images=1281167" in elsewhere.stderr


def test_classes_that_nobody_knows(digits):
    experiment = config.parse(
        ["tests/data/train/tiny.gin"],
        bindings(digits, {"efficientnet_x.build_model.num_classes": None}),
    )
    setting = "--gin_param='efficientnet_x.build_model.num_classes = 1000'"
    with pytest.raises(UserError, match=re.escape(setting)):
        report.data_of(experiment, 1000)


def stored_milliseconds(topology):
    """Return what benchmarks/results says of the train step, as text."""
    if topology == "v3":
        stored = results.load(results.FOLDER / "tpu.step.json")
        return f"{stored['forms']['as_written']['milliseconds']:.1f}"
    said = results.load(results.FOLDER / "tpu.preflight.json")["output"]
    (found,) = re.findall(r"images/s, ([\d.]+) ms a step", "\n".join(said))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "batch"), [("v3", 64), ("v3:4x4", 2048)])
def test_the_network_of_the_docs(topology, batch):
    """Minutes on two cores, unless the user's cache knows the answer."""
    files = ["models/efficientnet_x_b0.gin", "runs/imagenet_tpu.gin"]
    settings = {"data_dir": "nowhere", "global_batch_size": batch}
    experiment = config.parse(
        [f"gin_configs/{file}" for file in files],
        [f"experiment.Experiment.{k} = {v!r}" for k, v in settings.items()]
        + [f"experiment.Experiment.eval_batch_size = {batch}"],
    )
    experiment, info = report.data_of(experiment, 1_281_167)
    with Compiler(2) as compiler:
        found = PreflightReport.of(
            report.findings(
                experiment,
                info,
                Topology.parse(topology),
                compiler,
                largest_batch=False,
                reads_data=False,
            )
        )
    assert (found.compiles, found.fits) == (True, True)
    assert found.run.replicas == batch // 64
    said = text_of(found)
    # Of the pinned compiler, and as the docs have it.
    assert f"{stored_milliseconds(topology)} ms a step; 350 epochs" in said
    assert "train step: compiles and fits, " in said
    assert "\n  1.13 GiB of HBM, " in said
    model = experiment.build_model()
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, BatchNormalization)
    ]
    compilation = found.steps[0].compilation
    assert compilation is not None
    reductions = {one.group_size: one for one in compilation.collectives}
    if topology == "v3":
        assert reductions == {}
        return
    assert set(reductions) == {8, 32}
    assert reductions[8].count == 2 * len(layers) == 92
    # Of this size, XLA makes two of the one for gradients, loss and statistics.
    assert found.all_reduces == 94
    values = 1 + sum(math.prod(weight.shape) for weight in model.weights)
    assert reductions[32].operand_bytes == 4 * values
