"""TensorFlow's own TPUStrategy with CPU devices for cores.

CPU:0 of a host is the host; CPU:1, CPU:2 ... stand for TPU:0, TPU:1 ... Three things
are replaced, each for the module alone that asks for it: the names of the devices, the
op that configures a TPU, and what the runtime does to a program before it runs
(`replication`). `tf.distribute.TPUStrategy`, its variables, its input pipelines and
what it traces are the real ones.
"""

import collections
import functools
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import tpu_strategy
from tensorflow.python.tpu import tpu, tpu_strategy_util, tpu_system_metadata
from tensorflow.python.tpu.topology import Topology

from launch.rehearsal import replication
from launch.rehearsal.shim import changed, require_known_tensorflow, stand_in

_Device = collections.namedtuple("_Device", ["name", "device_type"])
_REMOTE = "/job:worker/"
_TABLES = "_device_input_worker_devices", "_host_input_worker_devices"


def install(cores: int) -> None:
    """Make every host of this process' cluster look like one with TPU cores.

    To be called once, before TensorFlow has made its devices.

    Args:
      cores: of this host, and of each worker.

    Raises:
      UserError: this TensorFlow is not the one that was read.
    """
    require_known_tensorflow()
    make_cpus(cores + 1)
    _list_cpus_as_cores()
    _name_cores_as_cpus()
    _configure_without_tpu()
    tpu_strategy.tpu = stand_in(tpu, replicate=replication.replicate)


def make_cpus(number: int) -> None:
    """Divide this machine's CPU, and let no graph be rewritten.

    Grappler's rewrites round by the graph around, so that two strategies would differ.
    """
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * number
    tf.config.set_logical_device_configuration(cpu, devices)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def _as_core(name: str) -> str:
    """Return TPU:n of CPU:(n + 1)."""
    spec = tf.DeviceSpec.from_string(name)
    if spec.device_type != "CPU" or not spec.device_index:
        return name
    index = spec.device_index - 1
    return spec.replace(device_type="TPU", device_index=index).to_string()


def _as_cpu(name: str) -> str:
    """Return CPU:(n + 1) of TPU:n."""
    spec = tf.DeviceSpec.from_string(name)
    if spec.device_type != "TPU":
        return name
    index = (spec.device_index or 0) + 1
    return spec.replace(device_type="CPU", device_index=index).to_string()


def _list_cpus_as_cores() -> None:
    listed = tpu_system_metadata.config.list_logical_devices

    def list_logical_devices(kind: str | None = None) -> list[_Device]:
        names = [device.name for device in listed(kind)]
        # With a cluster, this process' own CPUs are no cores.
        remote = any(_REMOTE in name for name in names)
        names = [_as_core(n) if _REMOTE in n or not remote else n for n in names]
        return [_Device(n, tf.DeviceSpec.from_string(n).device_type) for n in names]

    tpu_system_metadata.config = stand_in(
        tpu_system_metadata.config, list_logical_devices=list_logical_devices
    )


def _name_cores_as_cpus() -> None:
    """Let what comes behind the making of a strategy find devices that exist."""
    original = tpu_strategy.TPUExtended.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if missing := {"_tpu_devices", *_TABLES} - vars(self).keys():
            raise changed(f"TPUExtended has no {missing.pop()}")
        self._tpu_devices = np.vectorize(_as_cpu, otypes=[object])(self._tpu_devices)
        for workers in (getattr(self, table) for table in _TABLES):
            for host, devices in workers.items():
                workers[host] = [_as_cpu(device) for device in devices]

    tpu_strategy.TPUExtended.__init__ = init


def _configure_without_tpu() -> None:
    def initialize_system(job: str | None = None, **_: Any) -> tf.Tensor:
        del job
        devices = tpu_system_metadata.config.list_logical_devices()
        specs = [tf.DeviceSpec.from_string(device.name) for device in devices]
        cores = collections.Counter(s.task for s in specs if s.device_type == "TPU")
        hosts, each = len(cores), max(cores.values())
        places = [[[host, core, 0, 0] for core in range(each)] for host in range(hosts)]
        topology = Topology(
            mesh_shape=[hosts, each, 1, 1], device_coordinates=np.array(places)
        )
        return tf.constant(topology.serialized())

    def system_device(job: str | None = None) -> str:
        return "/device:CPU:0" if job is None else f"/job:{job}/device:CPU:0"

    tpu_strategy_util.tpu = stand_in(
        tpu,
        initialize_system=initialize_system,
        _tpu_system_device_name=system_device,
    )
