"""The devices of a run in words, and those that nobody can have meant."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from common.accelerators import tpu_of_type
from common.console import count, warn
from common.errors import UserError
from train.distribution import workers
from train.distribution.processes import Processes, input_hosts

# Where the kernel has a driver for NVIDIA's GPUs; the last is that of WSL.
_DRIVERS = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")
_ONE_DEVICE = "experiment.Experiment.strategy = 'one_device'"


class Devices(NamedTuple):
    """What a run computes on.

    Attributes:
      kind: as "NVIDIA H100 80GB HBM3", "TPU v3" or "CPU".
      number: of them, one for each replica.
      hosts: machines that feed them.
    """

    kind: str
    number: int
    hosts: int

    def __str__(self) -> str:
        """As in "2 x NVIDIA H100 (2 replicas)" or "1 CPU (1 replica)"."""
        devices = (
            count(self.number, self.kind)
            if self.kind == "CPU"
            else f"{self.number:,} x {self.kind}"
        )
        hosts = f" on {self.hosts:,} hosts" * (self.hosts > 1)
        return f"{devices} ({count(self.number, 'replica')}{hosts})"

    def summary(self) -> dict[str, str | int]:
        """Return what summary.json says of them."""
        return {
            "device": self.kind,
            "devices": self.number,
            "replicas": self.number,
            "hosts": self.hosts,
        }


def find(strategy: tf.distribute.Strategy) -> Devices:
    """Return the devices of a strategy, over all of its hosts."""
    _, hosts = input_hosts(strategy, Processes(strategy))
    return Devices(_kind(strategy), strategy.num_replicas_in_sync, hosts)


def _kind(strategy: tf.distribute.Strategy) -> str:
    types = _types(strategy)
    if types == {"TPU"}:
        accelerator = workers.accelerator_type()
        known = tpu_of_type(accelerator) is not None
        return f"TPU {accelerator.partition('-')[0]}" if known else "TPU"
    if types != {"GPU"}:
        return " and ".join(sorted(types))
    names = set(gpu_names()[: len(strategy.extended.worker_devices)])
    return names.pop() if len(names) == 1 else "GPU"


def _types(strategy: tf.distribute.Strategy) -> set[str]:
    """Return "CPU", "GPU" or "TPU" of the devices of this process."""
    devices = strategy.extended.worker_devices
    return {str(tf.DeviceSpec.from_string(name).device_type) for name in devices}


def gpu_names() -> Sequence[str]:
    """Return what the GPUs of this machine that TensorFlow finds call themselves."""
    details = map(
        tf.config.experimental.get_device_details,
        tf.config.list_physical_devices("GPU"),
    )
    return [detail.get("device_name") or "GPU" for detail in details]


def check(name: str, strategy: tf.distribute.Strategy, *, trains: bool) -> None:
    """Refuse, or say in a warning, devices that nobody can have meant.

    Several logical CPUs are meant: somebody has made them. To score or to export, a
    CPU will do, whatever the run was trained on.

    Args:
      name: of the strategy, as the config has it.
      strategy: that was made of it.
      trains: whether a training is to run on them.

    Raises:
      UserError: `mirrored` would train on one CPU.
    """
    if _types(strategy) == {"CPU"}:
        _check_cpus(name, strategy.num_replicas_in_sync, trains)
    elif name == "one_device" and (gpus := len(gpu_names())) > 1:
        warn(
            f"strategy 'one_device' uses 1 of {gpus} GPUs: to use all, bind "
            "experiment.Experiment.strategy = 'mirrored'; to say which, set "
            "CUDA_VISIBLE_DEVICES"
        )


def _check_cpus(name: str, replicas: int, trains: bool) -> None:
    if name == "mirrored" and replicas == 1:
        line = f"strategy 'mirrored' asks for GPUs, and {why_no_gpu()}"
        if trains:
            raise UserError(f'{line}. To train on the CPU, --gin_param="{_ONE_DEVICE}"')
        warn(f"{line}: the CPU computes instead")
    elif name == "multi_worker":
        warn(f"{count(replicas, 'replica')} on CPUs: {why_no_gpu()}")
    elif name == "one_device" and _has_driver() and not _are_hidden():
        warn(f"the run computes on the CPU: {why_no_gpu()}")


def why_no_gpu() -> str:
    """Return why TensorFlow finds no GPU here, and how to mend it."""
    if not _has_driver():
        return (
            "there is no GPU: this machine has no driver of NVIDIA's, or its container "
            "was started without it (docker run --gpus all)"
        )
    if _are_hidden():
        return "CUDA_VISIBLE_DEVICES hides all of them"
    if not tf.test.is_built_with_cuda():
        return "this TensorFlow is built without CUDA: make setup ACCELERATOR=gpu"
    return (
        "TensorFlow finds none, though there is a driver: CUDA's libraries are missing "
        "(make setup ACCELERATOR=gpu) or do not fit the driver (TF_CPP_MIN_LOG_LEVEL=0 "
        "shows what TensorFlow says of it)"
    )


def _has_driver() -> bool:
    return any(map(os.path.exists, _DRIVERS))


def _are_hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
