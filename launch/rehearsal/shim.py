"""Stand-ins for parts of TensorFlow's modules, and what they rely on."""

import inspect
import types
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import tpu_strategy
from tensorflow.python.tpu import tpu, tpu_strategy_util, tpu_system_metadata

from common.errors import UserError

_VERSION = "2.20."
_GRAPH: Any = tf.Graph
# Of each function that is replaced or called: its first parameters, as they were read.
_PARAMETERS: dict[Callable, tuple[str, ...]] = {
    tpu.initialize_system: ("embedding_config", "job"),
    tpu._tpu_system_device_name: ("job",),
    tpu.replicate: ("computation", "inputs", "infeed_queue", "device_assignment"),
    tpu_strategy.TPUExtended.__init__: ("self", "container_strategy"),
    tpu_strategy_util.initialize_tpu_system_impl: (
        "cluster_resolver",
        "tpu_cluster_resolver_cls",
    ),
    tpu_system_metadata._query_tpu_system_metadata: ("master_address", "cluster_def"),
    _GRAPH._create_op_internal: ("self", "op_type", "inputs", "dtypes"),
    _GRAPH._add_function_recursive: ("self", "function"),
    _GRAPH._get_function: ("self", "name"),
}


def require_known_tensorflow() -> None:
    """Refuse a TensorFlow whose TPUStrategy may not be the one that was read.

    Raises:
      UserError: its version is another, or a function that is replaced has changed.
    """
    if not tf.version.VERSION.startswith(_VERSION):
        raise changed(f"this is {tf.version.VERSION}")
    for function, expected in _PARAMETERS.items():
        found = tuple(inspect.signature(function).parameters)[: len(expected)]
        if found != expected:
            raise changed(f"{function.__qualname__} takes {', '.join(found)}")


def changed(what: str) -> UserError:
    """Return the error of a TensorFlow that is not as it was read."""
    return UserError(
        f"the rehearsal stands on the inside of TensorFlow {_VERSION}x, and {what}: "
        "install the versions of requirements.txt (make setup)"
    )


def stand_in(module: Any, **changes: Any) -> Any:
    """Return a copy of a module with changes: for one that imports it, nobody else."""
    copy = types.SimpleNamespace(**vars(module))
    vars(copy).update(changes)
    return copy
