"""How fast the devices of a run could be at most."""

import os
import re
from collections.abc import Sequence

import tensorflow as tf

from tpu_compiler.topology import GENERATIONS

# Peak TFLOP/s of one device, dense (half of what NVIDIA prints "with sparsity"), in
# bfloat16, or in float16 where the device has no bfloat16 (V100, T4). The first pattern
# that is found in the device's name counts. From NVIDIA's data sheets of each product,
# of B200 that of HGX B200. Of these, none was measured here.
GPU_TERAFLOPS = (
    (r"\bMIG\b", None),  # a slice of a GPU, and its name does not say of how much
    (r"\bB200\b", 2250.0),
    (r"\bH200 NVL\b", 835.0),
    (r"\bH200\b", 989.0),
    (r"\bH100 NVL\b", 835.0),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH100\b", 989.0),  # SXM: "NVIDIA H100 80GB HBM3"
    (r"\bA100\b", 312.0),  # SXM and PCIe alike
    (r"\bL4\b", 121.0),
    (r"\bV100-PCIE\b", 112.0),
    (r"\bV100-SXM", 125.0),
    (r"\bT4\b", 65.0),
)

# What an accelerator type begins with, where that is not the generation's name.
_TPU_ALIASES = {"v5litepod": "v5e"}


def peak_teraflops(strategy: tf.distribute.Strategy) -> float | None:
    """Returns the peak of one replica in TFLOP/s, None when it is not known.

    A TPU is known by its accelerator type in TPU_ACCELERATOR_TYPE ("v4-32"), which a
    TPU VM has in its environment: TensorFlow itself tells it nowhere in public.
    """
    devices = strategy.extended.worker_devices
    kinds = {tf.DeviceSpec.from_string(name).device_type for name in devices}
    if kinds == {"TPU"}:
        return _of_tpu(os.environ.get("TPU_ACCELERATOR_TYPE", ""))
    if kinds == {"GPU"}:
        return _of_gpus(tf.config.list_physical_devices("GPU"))
    return None


def _of_tpu(accelerator_type: str) -> float | None:
    name = accelerator_type.partition("-")[0]
    generation = GENERATIONS.get(_TPU_ALIASES.get(name, name))
    return None if generation is None else generation.peak_flops / 1e12


def _of_gpus(gpus: Sequence[tf.config.PhysicalDevice]) -> float | None:
    """Returns the peak of each of these GPUs, None when they are not all alike."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    peaks = {_of_name(detail.get("device_name", "")) for detail in details}
    return peaks.pop() if len(peaks) == 1 else None


def _of_name(name: str) -> float | None:
    for pattern, teraflops in GPU_TERAFLOPS:
        if re.search(pattern, name):
            return teraflops
    return None
