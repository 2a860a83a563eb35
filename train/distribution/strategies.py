"""Which devices a run uses: the one place that makes a `tf.distribute.Strategy`."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from common.errors import Restart, UserError, first_line, one_line
from train.distribution import cluster, workers
from train.fault_tolerance import graph_errors


def make_strategy(
    name: str, is_stopped: Callable[[], bool] = lambda: False
) -> tf.distribute.Strategy:
    """Make the strategy that a gin file names.

    Args:
      name: `one_device` (the first GPU, else the CPU), `mirrored` (every GPU of this
        machine, else every logical CPU), `multi_worker` (one process per machine, told
        apart by TF_CONFIG) or `tpu` (the chips or pod slice that $TPU_NAME names).
      is_stopped: whether to wait no longer for the other processes, or the TPU.

    Raises:
      UserError: the name is unknown, or what the strategy needs is not there.
      Restart: it is stopped, or another process has gone while all of them met; or
        the TPU is not ready.
    """
    makers = {
        "one_device": _one_device,
        "mirrored": _mirrored,
        "multi_worker": lambda: _multi_worker(is_stopped),
        "tpu": lambda: _tpu(os.environ.get("TPU_NAME"), is_stopped),
    }
    if name not in makers:
        raise UserError(
            f"unknown strategy {name!r}; Experiment.strategy is one of: "
            + ", ".join(makers)
        )
    with _termination_as_it_was():
        return makers[name]()


@contextlib.contextmanager
def _termination_as_it_was() -> Iterator[None]:
    """Put back the handler of SIGTERM: TensorFlow's servers install one of their own.

    Theirs only takes note, for somebody who would ask TensorFlow: nobody here does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


def _one_device() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def _mirrored() -> tf.distribute.Strategy:
    list_devices = tf.config.list_logical_devices
    devices = list_devices("GPU") or list_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker(is_stopped: Callable[[], bool]) -> tf.distribute.Strategy:
    cluster.meet(cluster.find("multi_worker"), is_stopped)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise Restart(
            "the processes of TF_CONFIG have not come together "
            f"({first_line(error)}); all of them have to be started again"
        ) from error


def _tpu(name: str | None, is_stopped: Callable[[], bool]) -> tf.distribute.Strategy:
    if not name:
        raise UserError(
            "strategy 'tpu' needs the TPU's name: set TPU_NAME (`local` on a single "
            "TPU host). Without a TPU, train with "
            "--gin_param=\"experiment.Experiment.strategy = 'one_device'\""
        )
    workers.wait(workers.find(name), is_stopped)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        # A TPU VM that trains on its own chips has no remote job to connect to.
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        what, no_kernel, _ = one_line(error).partition(" used by with these attrs")
        if no_kernel:  # a TensorFlow that knows nothing of TPUs; its kernels follow
            what += ". Is this TensorFlow one for TPUs (make setup ACCELERATOR=tpu)?"
        why = f"cannot reach TPU {name!r}: {what}"
        is_gone = graph_errors.is_peer_lost(error)  # or it is not yet there
        raise (Restart if is_gone else UserError)(why) from error
    return tf.distribute.TPUStrategy(resolver)
