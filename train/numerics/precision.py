"""Which devices compute in a precision, and which of them are slow at it."""

from collections.abc import Sequence

import tensorflow as tf

from common.console import warn
from common.errors import UserError

# Of CUDA's compute capability: tensor cores for the dtype are in it from here on.
_BFLOAT16 = (8, 0)  # Ampere: A100, RTX 30
_FLOAT16 = (7, 0)  # Volta: V100, and Turing's T4 and RTX 20


def check(precision: str, strategy: tf.distribute.Strategy) -> None:
    """Refuse a precision that the devices do not have; warn of one that is slow.

    Args:
      precision: see `Experiment.precision`.
      strategy: whose devices compute.

    Raises:
      UserError: TPUs are to compute in float16.
    """
    devices = strategy.extended.worker_devices
    kinds = {tf.DeviceSpec.from_string(name).device_type for name in devices}
    if "TPU" in kinds:
        refuse_on_tpus(precision)
    elif "GPU" in kinds:
        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        for line in slow_gpus(precision, details):
            warn(line)
    elif precision == "mixed_float16":
        warn(
            "Experiment.precision = 'mixed_float16' is slow on CPUs, which compute it "
            "in software; 'float32' is fast there"
        )


def refuse_on_tpus(precision: str) -> None:
    """Raise UserError where TPUs do not compute in this precision."""
    if precision == "mixed_float16":
        raise UserError(
            "Experiment.precision = 'mixed_float16' is for GPUs: TPUs compute in "
            "bfloat16; set it to 'mixed_bfloat16'"
        )


def slow_gpus(precision: str, details: Sequence[dict]) -> list[str]:
    """Return a line for every kind of GPU that is slow in this precision.

    Args:
      precision: see `Experiment.precision`.
      details: of the GPUs, as `tf.config.experimental.get_device_details` has them:
        device_name, and compute_capability as (8, 0). One that TensorFlow does not
        know is not judged.
    """
    least = {"mixed_bfloat16": _BFLOAT16, "mixed_float16": _FLOAT16}.get(precision)
    if least is None:
        return []
    lines = []
    for detail in details:
        capability = detail.get("compute_capability")
        if capability is None or tuple(capability) >= least:
            continue
        major, minor = capability
        better = "mixed_float16" if (major, minor) >= _FLOAT16 else "float32"
        lines.append(
            f"{detail.get('device_name', 'the GPU')} (compute capability "
            f"{major}.{minor}) has no fast {precision.removeprefix('mixed_')}, which "
            f"begins at {least[0]}.{least[1]}; set Experiment.precision = '{better}'"
        )
    return list(dict.fromkeys(lines))
