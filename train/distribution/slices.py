"""What a slice needs because it is driven over the network.

Each operation that this process runs by itself is a message to a worker there, and the
next one waits for its answer. So what is done to all variables is one function; where
devices are at hand it is done at once, for to trace a function takes longer.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import tpu_strategy

_SWITCH = "_EXPERIMENTAL_TPU_BATCH_VARIABLE_INITIALIZATION"
_OWN_CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


def is_slice(strategy: tf.distribute.Strategy) -> bool:
    """Return whether a strategy is that of TPUs, with or without a network between."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


@contextlib.contextmanager
def set_together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Set the variables of a slice that are made in this context at its end.

    This process computes their values: on a TPU each of them would be a program of its
    own to compile. Until the context is left no variable may be read or set, and what
    is made outside of it is set when it is made, as under any other strategy.

    Args:
      strategy: in whose scope this is.
    """
    if not is_slice(strategy):
        yield
        return
    setattr(tpu_strategy, _SWITCH, True)
    try:
        # Left last, it sets them, though it is not the outermost of its kind.
        with (
            strategy.scope(),
            tf.variable_creator_scope(_compute_here),
            tf.device(own_cpu()),
        ):
            yield
    finally:
        setattr(tpu_strategy, _SWITCH, False)


def _compute_here(next_creator: Callable, **keywords: Any) -> tf.Variable:
    value = keywords["initial_value"]
    with tf.device(own_cpu()):
        keywords["initial_value"] = value() if callable(value) else value
    return next_creator(**keywords)


def at_once(function: Callable[..., None], *args: Any) -> None:
    """Call a function of tensors that sets variables; on a slice as one operation.

    Args:
      function: of what `args` hold, as tensors.
      args: nests of arrays. They are handed over, and are no part of a graph.
    """
    if not is_slice(tf.distribute.get_strategy()):
        function(*args)
        return
    with tf.device(own_cpu()):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, args)
    tf.function(function, autograph=False)(*tensors)


def own_cpu() -> str:
    """Return this process' own CPU.

    "CPU:0" is that of a slice's first worker once it is connected.
    """
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    return _OWN_CPU if _OWN_CPU in names else "CPU:0"


def host_cpu(strategy: tf.distribute.Strategy) -> str:
    """Return the CPU beside the first device of a slice; "" under other strategies.

    There goes what a program for the devices does not do. Elsewhere TensorFlow's own
    choice is right.
    """
    if not is_slice(strategy):
        return ""
    hosts: Sequence[str] = strategy.extended.worker_devices
    return (
        tf.DeviceSpec.from_string(hosts[0])
        .replace(device_type="CPU", device_index=0)
        .to_string()
    )
