"""Which devices a run uses: the one place that makes a `tf.distribute.Strategy`."""

import json
import os

import tensorflow as tf

from common.errors import UserError, first_line

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Make the strategy that a gin file names.

    Args:
      name: `one_device` (the first GPU, else the CPU), `mirrored` (every GPU of this
        machine, else every logical CPU), `multi_worker` (one process per machine, told
        apart by TF_CONFIG) or `tpu` (the chips or pod slice that $TPU_NAME names).

    Raises:
      UserError: the name is unknown, or what the strategy needs is not there.
    """
    makers = {
        "one_device": _one_device,
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
        "tpu": lambda: _tpu(os.environ.get("TPU_NAME")),
    }
    if name not in makers:
        raise UserError(
            f"unknown strategy {name!r}; Experiment.strategy is one of: "
            + ", ".join(makers)
        )
    return makers[name]()


def _one_device() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def _mirrored() -> tf.distribute.Strategy:
    list_devices = tf.config.list_logical_devices
    devices = list_devices("GPU") or list_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker() -> tf.distribute.Strategy:
    try:
        config = json.loads(os.environ.get("TF_CONFIG", ""))
        complete = config["cluster"]["worker"] and {"type", "index"} <= set(
            config["task"]
        )
    except (json.JSONDecodeError, KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(
            "strategy 'multi_worker' needs TF_CONFIG in the environment of every "
            'process, as in TF_CONFIG=\'{"cluster": {"worker": ["host0:2222", '
            '"host1:2222"]}, "task": {"type": "worker", "index": 0}}\''
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(name: str | None) -> tf.distribute.Strategy:
    if not name:
        raise UserError(
            "strategy 'tpu' needs the TPU's name: set TPU_NAME (`local` on a single "
            "TPU host). Without a TPU, train with "
            "--gin_param=\"experiment.Experiment.strategy = 'one_device'\""
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        # A TPU VM that trains on its own chips has no remote job to connect to.
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        why = first_line(error)
        raise UserError(f"cannot reach TPU {name!r}: {why}") from error
    return tf.distribute.TPUStrategy(resolver)
