"""The devices of a run: what is said of them, and what is refused."""

import types

import pytest
import tensorflow as tf

from common.errors import UserError
from train.distribution import devices
from train.distribution.devices import Devices

ONE_DEVICE = "--gin_param=\"experiment.Experiment.strategy = 'one_device'\""
NO_DRIVER = (
    "there is no GPU: this machine has no driver of NVIDIA's, or its container was "
    "started without it (docker run --gpus all)"
)


def strategy_on(*names, replicas=None):
    return types.SimpleNamespace(
        extended=types.SimpleNamespace(worker_devices=names),
        num_replicas_in_sync=replicas or len(names),
    )


CPU = strategy_on("/device:CPU:0")
TWO_CPUS = strategy_on("/device:CPU:0", "/device:CPU:1")


@pytest.fixture
def machine(monkeypatch):
    """Function: has this machine own GPUs of these names; and say what it is like."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(*names, driver=True, cuda=True):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: names)
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda name: {"device_name": name} if name else {},
        )
        monkeypatch.setattr(devices, "_DRIVERS", ["/dev/null"] * driver)
        monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: cuda)
        return strategy_on(*(f"/device:GPU:{n}" for n in range(len(names))))

    return install


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["NVIDIA H100"] * 2, Devices("NVIDIA H100", 2, 1)),
        (["NVIDIA H100", "Tesla T4"], Devices("GPU", 2, 1)),
        ([""], Devices("GPU", 1, 1)),
    ],
)
def test_gpus(machine, names, wanted):
    assert devices.find(machine(*names)) == wanted


def test_one_gpu_of_several_is_the_one_in_use(machine):
    machine("NVIDIA L4", "Tesla T4")
    assert devices.find(strategy_on("/device:GPU:0")) == Devices("NVIDIA L4", 1, 1)


@pytest.mark.parametrize(
    ("accelerator", "kind"), [("v3-8", "TPU v3"), ("v99-8", "TPU"), ("", "TPU")]
)
def test_tpus(monkeypatch, accelerator, kind):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", accelerator)
    found = devices.find(strategy_on(*(f"/device:TPU:{n}" for n in range(8))))
    assert found == Devices(kind, 8, 1)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Devices("CPU", 1, 1), "1 CPU (1 replica)"),
        (Devices("CPU", 2, 1), "2 CPUs (2 replicas)"),
        (Devices("NVIDIA H100", 2, 1), "2 x NVIDIA H100 (2 replicas)"),
        (Devices("TPU v3", 1024, 128), "1,024 x TPU v3 (1,024 replicas on 128 hosts)"),
    ],
)
def test_words(found, text):
    assert str(found) == text


def test_summary():
    assert Devices("TPU v3", 32, 4).summary() == {
        "device": "TPU v3",
        "devices": 32,
        "replicas": 32,
        "hosts": 4,
    }


@pytest.mark.parametrize(
    ("like", "visible", "why"),
    [
        ({"driver": False}, None, NO_DRIVER),
        ({}, "-1", "CUDA_VISIBLE_DEVICES hides all of them"),
        (
            {"cuda": False},
            None,
            "this TensorFlow is built without CUDA: make setup ACCELERATOR=gpu",
        ),
        (
            {},
            None,
            "TensorFlow finds none, though there is a driver: CUDA's libraries are "
            "missing (make setup ACCELERATOR=gpu) or do not fit the driver "
            "(TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow says of it)",
        ),
    ],
)
def test_mirrored_asks_for_gpus(machine, monkeypatch, capsys, like, visible, why):
    """And trains on none but those; to score, the CPU does, with a word."""
    machine(**like)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line = f"strategy 'mirrored' asks for GPUs, and {why}"
    with pytest.raises(UserError) as refused:
        devices.check("mirrored", CPU, trains=True)
    assert str(refused.value) == f"{line}. To train on the CPU, {ONE_DEVICE}"
    devices.check("mirrored", CPU, trains=False)
    wanted = f"warning: {line}: the CPU computes instead\n"
    assert capsys.readouterr().err == wanted


def test_what_is_meant_is_not_said(machine, monkeypatch, capsys):
    gpus = machine("NVIDIA L4", "NVIDIA L4")
    devices.check("mirrored", gpus, trains=True)
    devices.check("one_device", machine("NVIDIA L4"), trains=True)
    machine(driver=False)
    devices.check("mirrored", TWO_CPUS, trains=True)
    devices.check("one_device", CPU, trains=True)
    machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    devices.check("one_device", CPU, trains=True)
    assert capsys.readouterr().err == ""


def test_what_may_not_be_meant_is_said(machine, capsys):
    machine(*["NVIDIA L4"] * 8)
    devices.check("one_device", strategy_on("/device:GPU:0"), trains=True)
    machine(driver=False)
    devices.check("multi_worker", strategy_on("/device:CPU:0", replicas=2), trains=True)
    machine(cuda=False)
    devices.check("one_device", CPU, trains=True)
    assert capsys.readouterr().err.splitlines() == [
        "warning: strategy 'one_device' uses 1 of 8 GPUs: to use all, bind "
        "experiment.Experiment.strategy = 'mirrored'; to say which, set "
        "CUDA_VISIBLE_DEVICES",
        f"warning: 2 replicas on CPUs: {NO_DRIVER}",
        "warning: the run computes on the CPU: this TensorFlow is built without CUDA: "
        "make setup ACCELERATOR=gpu",
    ]
