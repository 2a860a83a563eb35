import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.support import step_forms
from benchmarks.tpu import step
from models import blocks
from models.scaling import BlockSpec
from tpu_compiler import CompilerReport, Topology
from tpu_compiler.costs import Costs, Instruction
from tpu_compiler.report import Memory

KERAS = step_forms.KerasBatchNormalization, step_forms.KerasJaxBatchNormalization


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

        monkeypatch.setattr(step, "_compile", compile)
        status = step.main(["--model=efficientnet_b1", "--batch=8", *flags])
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
    ],
)
def test_a_wrong_flag(flag, error, capsys):
    with pytest.raises(SystemExit) as ended:
        step.main([flag])
    assert ended.value.code == 2
    assert error in capsys.readouterr().err


def test_an_unknown_topology(capsys):
    assert step.main(["--topology=v9"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown TPU topology 'v9'")


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

    monkeypatch.setattr(step, "Compiler", Compiler)
    monkeypatch.setattr(step_forms, "lower", lambda *arguments: arguments)
    found = step._compile("efficientnet_b1", 8, Topology.parse("v4"))
    assert found == {form: form for form in CYCLES}
    assert asked == [(("efficientnet_b1", 8, form), "v4", form) for form in CYCLES]


EPSILON = 1e-3
X, UPSTREAM = np.random.RandomState(0).normal(3, 2, [2, 4, 6, 6, 5]).astype(np.float32)


def gradient_of(layer):
    """Return the gradients of a layer in training, and how many sums they take."""

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) * UPSTREAM)
        return tape.gradient(loss, [x, *layer.trainable_variables])

    layer.build(X.shape)
    function = tf.function(gradients, jit_compile=True, autograph=False)
    hlo = function.experimental_get_compiler_ir(tf.constant(X))(stage="hlo")
    return function(tf.constant(X)), hlo.count(" reduce(")


def exact_gradient():
    """Return the gradients by the textbook's formula in float64, and their scales.

    A scale is the largest of the sums of the absolute values of what is summed up; of
    the inputs' gradient, which is none of these sums, its largest value.
    """
    x, upstream = X.astype(np.float64), UPSTREAM.astype(np.float64)
    axes = (0, 1, 2)
    deviation = np.sqrt(x.var(axes) + EPSILON)
    normal = (x - x.mean(axes)) / deviation
    gamma, beta = (upstream * normal).sum(axes), upstream.sum(axes)
    count = x[..., 0].size
    inputs = (upstream - beta / count - normal * gamma / count) / deviation
    scales = inputs, abs(upstream * normal).sum(axes), abs(upstream).sum(axes)
    return (inputs, gamma, beta), [abs(scale).max() for scale in scales]


def test_keras_gradients_are_ours_and_take_more_sums():
    makers = [blocks.BatchNormalization, *KERAS]
    (ours, _), (keras_tf, plain), (keras_jax, through_mean) = [
        gradient_of(make(momentum=0.9, epsilon=EPSILON)) for make in makers
    ]
    assert through_mean == plain + 1
    relative = 4 * np.finfo(np.float32).eps * np.sqrt(X[..., 0].size)  # as many terms
    exact, scales = exact_gradient()
    for found in (ours, keras_tf, keras_jax):
        for one, wanted, scale in zip(found, exact, scales, strict=True):
            np.testing.assert_allclose(one, wanted, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("form", step_forms.FORMS)
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
    with step_forms.batch_norm_of(form):
        block = blocks.MBConv(spec, dtype="float32", name="block")
        outputs = block(np.ones([2, 4, 4, 8], np.float32), training=True)
    assert outputs.shape == (2, 4, 4, 8)
    kinds = {type(one) for one in block.forward_layers if one.name.endswith("_bn")}
    assert kinds == {step_forms.KERAS_FORMS.get(form, blocks.BatchNormalization)}
    assert issubclass(kinds.pop(), keras.layers.BatchNormalization) == ("keras" in form)


@pytest.mark.slow
def test_every_form_is_another_program():
    programs = [step_forms.lower("efficientnet_x_b0", 8, form) for form in CYCLES]
    assert len(set(programs)) == len(programs)
