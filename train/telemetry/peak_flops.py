"""How fast the devices of a run could be at most."""

from collections.abc import Sequence

import tensorflow as tf

from common.accelerators import gpu_of_name, tpu_of_type
from train.distribution import workers


def peak_teraflops(strategy: tf.distribute.Strategy) -> float | None:
    """Return the peak of one replica in TFLOP/s, None when it is not known.

    That is of bfloat16, or of float16 where the device has no bfloat16.

    A TPU is known by its accelerator type, see `workers.Slice`: TensorFlow itself tells
    it nowhere in public.
    """
    devices = strategy.extended.worker_devices
    kinds = {tf.DeviceSpec.from_string(name).device_type for name in devices}
    if kinds == {"TPU"}:
        tpu = tpu_of_type(workers.accelerator_type())
        return None if tpu is None else tpu.peak_flops["bfloat16"] / 1e12
    if kinds == {"GPU"}:
        return _of_gpus(tf.config.list_physical_devices("GPU"))
    return None


def _of_gpus(gpus: Sequence[tf.config.PhysicalDevice]) -> float | None:
    """Return the peak of each of these GPUs, None when they are not all alike."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    peaks = {_of_name(detail.get("device_name", "")) for detail in details}
    return peaks.pop() if len(peaks) == 1 else None


def _of_name(name: str) -> float | None:
    gpu = gpu_of_name(name)
    peak = None if gpu is None else gpu.peak_of_16_bits
    return None if peak is None else peak / 1e12
