"""What a slice needs because it is driven over the network.

Each operation that this process runs by itself is a message to a worker there, and the
next one waits for its answer. So what is done to all variables is one function; where
devices are at hand it is done at once, for to trace a function takes longer.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

_OWN_CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


def is_slice(strategy: tf.distribute.Strategy) -> bool:
    """Return whether a strategy is that of TPUs, with or without a network between."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


# Sets each of some variables to the value of another one, or to an array.
Assign = Callable[[Sequence[Any], Sequence[Any]], None]


@contextlib.contextmanager
def set_together(strategy: tf.distribute.Strategy) -> Iterator[Assign]:
    """Set the variables of a slice that are made in this context at its end.

    This process computes their values: on a TPU each of them would be a program of its
    own to compile. Until the context is left no variable may be read or set, and what
    is made outside of it is set when it is made, as under any other strategy.

    Args:
      strategy: in whose scope this is.

    Yields:
      What sets variables of this context to the values of others of it.
    """
    if not is_slice(strategy):
        yield assign_all
        return
    made: list[tf.Variable] = []
    values: dict[int, tf.Tensor] = {}  # by the identity of what is made

    def create(_: Any, **keywords: Any) -> tf.Variable:
        value: Any = keywords.pop("initial_value")
        if callable(value):
            value = value()
        value = tf.convert_to_tensor(value)
        # As the strategy's own creator does, whose handles get their value at once.
        variable = strategy.extended._create_variable(
            UninitializedVariable,
            initial_value=None,
            distribute_strategy=strategy,
            **{**keywords, "shape": value.shape, "dtype": value.dtype},
        )
        made.append(variable)
        values[id(variable)] = value
        return variable

    def set_as(variables: Sequence[Any], others: Sequence[Any]) -> None:
        for variable, other in zip(variables, others, strict=True):
            values[id(variable)] = values[id(other)]

    with tf.variable_creator_scope(create), tf.device(own_cpu()):
        yield set_as
    assign_at_once(made, [values[id(variable)] for variable in made])


def assign_all(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Set each variable to its value, one by one."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def assign_at_once(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Set each variable to its value, on a slice in one operation; under the scope.

    Args:
      variables: of the strategy.
      values: arrays, tensors or variables. They are handed over, and are no part of a
        graph: a graph may not hold 2 GB.
    """
    if not is_slice(tf.distribute.get_strategy()):
        assign_all(variables, values)
        return
    with tf.device(own_cpu()):
        tensors = [tf.convert_to_tensor(np.asarray(value)) for value in values]
    assign = functools.partial(assign_all, variables)
    tf.function(assign, autograph=False)(tensors)


def own_cpu() -> str:
    """Return this process' own CPU.

    "CPU:0" is that of a slice's first worker once it is connected.
    """
    # TensorFlow lists those of the job "localhost" without it.
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    return _OWN_CPU if "/device:CPU:0" in names else "CPU:0"


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
