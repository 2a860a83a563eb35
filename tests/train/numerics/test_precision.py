"""Which devices are told what about a precision."""

from unittest import mock

import pytest
import tensorflow as tf

from common.errors import UserError
from tests.train.test_trainer import make_experiment
from train.numerics import precision
from train.start.context import make_strategy

V100 = {"device_name": "Tesla V100-SXM2-16GB", "compute_capability": (7, 0)}
T4 = {"device_name": "Tesla T4", "compute_capability": (7, 5)}
P100 = {"device_name": "Tesla P100-PCIE-16GB", "compute_capability": (6, 0)}
A100 = {"device_name": "NVIDIA A100-SXM4-40GB", "compute_capability": (8, 0)}


@pytest.mark.parametrize(
    ("name", "gpus", "lines"),
    [
        (
            "mixed_bfloat16",
            [V100, V100],
            [
                "Tesla V100-SXM2-16GB (compute capability 7.0) has no fast bfloat16, "
                "which begins at 8.0; set Experiment.precision = 'mixed_float16'"
            ],
        ),
        (
            "mixed_float16",
            [P100],
            [
                "Tesla P100-PCIE-16GB (compute capability 6.0) has no fast float16, "
                "which begins at 7.0; set Experiment.precision = 'float32'"
            ],
        ),
        ("mixed_float16", [V100, T4, A100], []),
        ("mixed_bfloat16", [A100], []),
        ("float32", [P100], []),
        ("mixed_bfloat16", [{}], []),  # TensorFlow does not know it
    ],
)
def test_slow_gpus(name, gpus, lines):
    assert precision.slow_gpus(name, gpus) == lines


def test_the_float16_of_no_tensor_core_is_not_advised():
    (line,) = precision.slow_gpus("mixed_bfloat16", [P100])
    assert line.endswith("set Experiment.precision = 'float32'")


def on(kind):
    """A strategy of two devices that are not there."""
    devices = [f"/job:worker/replica:0/task:0/device:{kind}:{n}" for n in range(2)]
    return mock.Mock(extended=mock.Mock(worker_devices=devices))


@pytest.mark.parametrize("kind", ["CPU", "GPU", "TPU"])
def test_what_each_kind_of_device_is_told(kind, capsys, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a GPU"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda _: {**P100}
    )
    precision.check("float32", on(kind))
    assert capsys.readouterr().err == ""
    if kind == "TPU":
        with pytest.raises(UserError, match="set it to 'mixed_bfloat16'"):
            precision.check("mixed_float16", on(kind))
        return
    precision.check("mixed_float16", on(kind))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert {"CPU": "slow on CPUs", "GPU": "no fast float16"}[kind] in said


def test_a_tpu_is_not_reached_for_float16(monkeypatch):
    monkeypatch.setenv("TPU_NAME", "nobody")
    settings = {"precision": "mixed_float16", "strategy": "tpu"}
    with pytest.raises(UserError, match="TPUs compute in bfloat16"):
        make_strategy(make_experiment(**settings))
