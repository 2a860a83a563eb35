import types

import pytest
import tensorflow as tf

from train.telemetry import peak_flops


def strategy_on(*devices):
    return types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=devices))


@pytest.fixture
def gpus(monkeypatch):
    """Function: has this machine own GPUs of these names."""

    def install(*names):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: names)
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda name: {"device_name": name} if name else {},
        )
        return strategy_on(*(f"/device:GPU:{n}" for n in range(len(names))))

    return install


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", None),
        ("Tesla T4", 65),
        ("NVIDIA B200", 2250),
        ("NVIDIA GeForce RTX 4090", None),
        ("", None),
    ],
)
def test_gpus(gpus, name, peak):
    assert peak_flops.peak_teraflops(gpus(name, name)) == peak


def test_unlike_gpus_have_no_common_peak(gpus):
    assert peak_flops.peak_teraflops(gpus("Tesla T4", "NVIDIA L4")) is None


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("v2-8", 22.5),
        ("v3-32", 61.5),
        ("v4-8", 275),
        ("v5litepod-16", 197),
        ("v5p-128", 459),
        ("v6e-8", 918),
        ("v9-8", None),
        ("", None),
    ],
)
def test_tpus(monkeypatch, kind, peak):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", kind)
    device = "/job:worker/replica:0/task:0/device:TPU:0"
    assert peak_flops.peak_teraflops(strategy_on(device, device)) == peak


def test_a_cpu_has_no_peak_whatever_the_host_is(monkeypatch, logical_cpus):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v4-8")
    for strategy in (
        tf.distribute.OneDeviceStrategy("/cpu:0"),
        tf.distribute.MirroredStrategy(logical_cpus),
    ):
        assert peak_flops.peak_teraflops(strategy) is None
