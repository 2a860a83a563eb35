"""The library of fused ops: where it lies, whether it loads, and who uses it."""

import contextlib
import contextvars
import functools
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from common.console import warn
from common.errors import one_line
from input_pipeline.errors import DataError

KERNELS = Path(__file__).parent / "kernels"
# TensorFlow itself does not start without AVX. -ffp-contract: see kernels/simd.h.
FLAGS = ("-std=c++17", "-O3", "-mavx", "-ffp-contract=off", "-fPIC", "-shared")

_in_use = contextvars.ContextVar("fused_ops", default=None)


class Found(NamedTuple):
    """What became of loading the library.

    Attributes:
      ops: the module of its ops, or None.
      why_not: why there is none; "" where there is.
    """

    ops: Any
    why_not: str


def path() -> Path:
    """Return where the library of these sources and this TensorFlow lies, or would.

    That is in the Python environment, beside the TensorFlow that it is linked with.
    """
    digest = hashlib.sha256(" ".join([tf.__version__, *FLAGS]).encode())
    for source in sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    name = f"fused_input_ops-{digest.hexdigest()[:16]}.so"
    return Path(sys.prefix) / "lib" / "efficientnet_x" / name


def sources() -> Sequence[Path]:
    """Return the sources, headers among them, in a fixed order."""
    return sorted(file for file in KERNELS.iterdir() if file.suffix in (".cc", ".h"))


@functools.cache
def find() -> Found:
    """Load the library, once.

    What runs a pipeline that another process has made has to call this first.
    """
    if not path().exists():
        return Found(None, "they are not built")
    try:
        return Found(tf.load_op_library(str(path())), "")
    except (tf.errors.OpError, OSError) as error:
        warn(
            f"the fused input ops do not load ({one_line(error)}): TensorFlow's own "
            "make the same images in more time; python -m input_pipeline.fused.build "
            "builds them anew"
        )
        return Found(None, one_line(error))


def choose(fused_ops: bool | None, service: str | None = None) -> Any:
    """Return the module of ops that images are to be made by; None for TensorFlow's.

    Args:
      fused_ops: the setting of `dataset.train_dataset` and `dataset.eval_dataset`.
      service: see there.

    Raises:
      DataError: they shall be used, and are not there.
    """
    if fused_ops is None:
        # Of workers that come and go nobody can tell whether all of them have the ops.
        return _of_all_machines() if service is None else None
    found = find()
    if fused_ops and found.ops is None:
        raise DataError(
            f"fused_ops = True, and there are no fused input ops: {found.why_not}; "
            "python -m input_pipeline.fused.build makes them, or says why it cannot. "
            "With None they are used where they are, and images are the same"
        )
    return found.ops if fused_ops else None


def in_use() -> Any:
    """Return the module of the ops that what is being traced is to use, or None."""
    return _in_use.get()


@contextlib.contextmanager
def use(ops: Any) -> Iterator[None]:
    """Trace with the ops of a module, or without: None."""
    token = _in_use.set(ops)
    try:
        yield
    finally:
        _in_use.reset(token)


def _of_all_machines() -> Any:
    """Return the module, if each machine that this process drives has the ops.

    A pipeline runs on one of them, but TensorFlow tells its functions to all.
    """
    ops = find().ops
    if ops is None:
        return None
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    if "/device:CPU:0" not in names:
        # Of equal processes, as under multi_worker, each drives its own devices alone;
        # the others' are listed, too, and to run something there ends this process.
        names = ["CPU:0"]
    machines = {}
    for name in names:
        machines.setdefault(name.partition("/device:")[0], name)
    return ops if all(_has_ops(ops, one) for one in machines.values()) else None


def _has_ops(ops: Any, device: str) -> bool:
    try:
        with tf.device(device):
            image = ops.efficientnetx_augment(
                tf.zeros([1, 1, 3], tf.uint8),
                tf.zeros([0], tf.int32),
                tf.zeros([0, 3]),
                tf.zeros([0, 1], tf.int32),
                ops="",
                parameters=[0.0],
                tables=[0],
            )
        image.numpy()  # another machine says only now whether it could
    except tf.errors.OpError:
        return False
    return True
