import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import tpu_step
from models import blocks
from models.scaling import BlockSpec
from tpu_compiler import CompilerReport, Topology
from tpu_compiler.costs import Costs, Instruction
from tpu_compiler.report import Memory

KERAS = tpu_step.KerasBatchNormalization, tpu_step.KerasJaxBatchNormalization


def report(verdict, message, **found):
    return CompilerReport(
        verdict=verdict,
        message=message,
        op="",
        location="",
        topology=Topology.parse("v3"),
        num_replicas=1,
        versions={"libtpu": "1"},
        seconds=1.0,
        from_cache=False,
        **found,
    )


def compiled(cycles):
    one = Instruction("add", "add", "f32[]", cycles, 0, 1, "", "", 0)
    costs = Costs((one,), (), {}, ())
    memory = Memory(0, 0, 0, 3 * 2**20, 0, 0)
    return report("compiled", "compiles and fits", costs=costs, memory=memory)


TOO_LARGE = report("out_of_memory", "needs 20.00 GiB of HBM")
CYCLES = {
    "keras_jax_batch_norm": 1_880_000,
    "keras_batch_norm": 1_600_000,
    "as_written": 1_200_000,
    "patches_hwcn": 940_000,
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Function: reports by form, flags -> the exit status and what is printed."""

    def run(reports, *flags):
        def compile(model, batch, topology):
            assert (model, batch, str(topology)) == ("efficientnet_b1", 8, "v3")
            return reports

        monkeypatch.setattr(tpu_step, "_compile", compile)
        status = tpu_step.main(["--model=efficientnet_b1", "--batch=8", *flags])
        return status, json.loads(capsys.readouterr().out)

    return run


def test_report(run):
    status, said = run({form: compiled(cycles) for form, cycles in CYCLES.items()})
    assert status == 0
    assert said["forms"]["patches_hwcn"] == {
        "cycles": 940_000,
        "milliseconds": 1.0,
        "temporaries_mb": 3,
    }
    assert said["fewer_cycles_than"] == {
        "keras_jax_batch_norm": {
            "keras_jax_batch_norm": 0.0,
            "keras_batch_norm": 0.149,
            "as_written": 0.362,
            "patches_hwcn": 0.5,
        },
        "keras_batch_norm": {
            "keras_jax_batch_norm": -0.175,
            "keras_batch_norm": 0.0,
            "as_written": 0.25,
            "patches_hwcn": 0.412,
        },
    }
    assert said["compiler"] == {"libtpu": "1"}
    assert {"cpu", "cores", "load_average"} == set(said["machine"])


def test_what_does_not_compile_or_fit_costs_its_own_row(run):
    reports = {form: compiled(cycles) for form, cycles in CYCLES.items()}
    refused = report("refused", "no form of stablehlo.foo")
    status, said = run(reports | {"keras_batch_norm": TOO_LARGE, "as_written": refused})
    assert status == 1
    assert said["forms"]["keras_batch_norm"] == {
        "failed": "it does not fit: needs 20.00 GiB of HBM"
    }
    assert said["forms"]["as_written"] == {
        "failed": "it does not compile: no form of stablehlo.foo"
    }
    assert said["fewer_cycles_than"] == {
        "keras_jax_batch_norm": {"keras_jax_batch_norm": 0.0, "patches_hwcn": 0.5}
    }


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--model=efficientnet_x_b9", "efficientnet_x_b7"),
        ("--batch=0", "0 is not 1 or more"),
        ("--topology=v9", "unknown TPU topology 'v9'"),
    ],
)
def test_mistakes(flag, error, capsys):
    with pytest.raises(SystemExit) as ended:
        tpu_step.main([flag])
    assert error in f"{ended.value.code} {capsys.readouterr().err}"


def test_compiles_every_form(monkeypatch):
    asked = []

    class Compiler:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def compile(self, module, topology, *, timeout_seconds, name):
            asked.append((module, str(topology), name))
            return type("Future", (), {"result": lambda self: name})()

    monkeypatch.setattr(tpu_step, "Compiler", Compiler)
    monkeypatch.setattr(tpu_step, "lower", lambda *arguments: arguments)
    found = tpu_step._compile("efficientnet_b1", 8, Topology.parse("v4"))
    assert found == {form: form for form in CYCLES}
    assert asked == [(("efficientnet_b1", 8, form), "v4", form) for form in CYCLES]


def gradient_of(layer):
    """Returns the gradients of a layer in training, and how many sums they take."""
    random = np.random.RandomState(0)
    x, upstream = random.normal(3, 2, [2, 4, 6, 6, 5]).astype(np.float32)

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) * upstream)
        return tape.gradient(loss, [x, *layer.trainable_variables])

    layer.build(x.shape)
    function = tf.function(gradients, jit_compile=True, autograph=False)
    hlo = function.experimental_get_compiler_ir(tf.constant(x))(stage="hlo")
    return function(tf.constant(x)), hlo.count(" reduce(")


def test_keras_gradients_are_ours_and_take_more_sums():
    arguments = {"momentum": 0.9, "epsilon": 1e-3}
    makers = [blocks.BatchNormalization, *KERAS]
    (ours, _), (keras_tf, plain), (keras_jax, through_mean) = [
        gradient_of(make(**arguments)) for make in makers
    ]
    for one, two, three in zip(ours, keras_tf, keras_jax, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-4)
        np.testing.assert_allclose(three, one, atol=1e-4)
    assert through_mean == plain + 1


@pytest.mark.parametrize("form", tpu_step.FORMS)
def test_batch_norm_of_a_form(form):
    """Keras' stands for itself: its block has no gradient in common with it."""
    spec = BlockSpec(
        kernel_size=3,
        strides=1,
        expand_ratio=1,
        input_filters=8,
        expanded_filters=8,
        output_filters=8,
        se_filters=2,
        activation="swish",
        fused=False,
    )
    with tpu_step._batch_norm_of(form):
        block = blocks.MBConv(spec, dtype="float32", name="block")
        outputs = block(np.ones([2, 4, 4, 8], np.float32), training=True)
    assert outputs.shape == (2, 4, 4, 8)
    kinds = {type(one) for one in block.forward_layers if one.name.endswith("_bn")}
    assert kinds == {tpu_step._KERAS_FORMS.get(form, blocks.BatchNormalization)}
    assert issubclass(kinds.pop(), keras.layers.BatchNormalization) == ("keras" in form)


@pytest.mark.slow
def test_every_form_is_another_program():
    programs = [tpu_step.lower("efficientnet_x_b0", 8, form) for form in CYCLES]
    assert len(set(programs)) == len(programs)
