"""What is measured of a loop of steps: sums on the device, and what is read of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOutput:
    """What the trainer measured over one loop of steps.

    Attributes:
      step: updates that the state has seen at the end of the loop.
      steps: updates in this loop.
      seconds: wall time of the loop.
      step_seconds: float[steps], from the moment at which the process asks for a batch
        to that at which it asks for the next. Where a device works asynchronously this
        is the pace of the process, which may run ahead of the device: it was seen on
        CPUs only.
      wait_seconds: what of `seconds` the process has waited for the input pipeline, by
        the same clock.
      loss: mean over the steps.
      top1: share of the loop's images, in [0, 1].
      learning_rate: of the schedule at `step`, that is, of the next update.
      gradient_norm: global norm before clipping, mean over the steps.
      gradient_norm_max: the largest of them.
      weight_norm: global norm of the weights that decay, at the end of the loop.
      ema_decay: of the moving average, at the end of the loop.
      skipped_records: places in the batches that no readable record filled.
      images: the others.
      loss_scale: of the next step; None where the loss is not scaled. Where it is, loss
        and norms are of the steps that had finite ones, not a number if none had.
      skipped_steps: whose update was left out, since float16 did not hold its gradient.
      policy: how the run's policy stands, by name; empty where it has none.
    """

    step: int
    steps: int
    seconds: float
    step_seconds: np.ndarray
    wait_seconds: float
    loss: float
    top1: float
    learning_rate: float
    gradient_norm: float
    gradient_norm_max: float
    weight_norm: float
    ema_decay: float
    skipped_records: int
    images: int
    loss_scale: float | None = None
    skipped_steps: int | None = None
    policy: Mapping[str, float | list[float]] = dataclasses.field(default_factory=dict)


class Sums:
    """Named running sums: each replica adds to its own, reading adds them up.

    Float32 counts exactly to 16.7 million, more than one loop or evaluation holds.
    To be made under the strategy's scope.
    """

    def __init__(self, names: Iterable[str]):
        self._sums = {
            name: tf.Variable(
                tf.zeros([]),
                trainable=False,
                name=name,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for name in names
        }

    def add(self, **values: tf.Tensor) -> None:
        """Add one scalar to each sum named. In a replica context."""
        for name, value in values.items():
            self._sums[name].assign_add(tf.cast(value, tf.float32))

    def reset(self) -> None:
        """Set all to zero. In the cross-replica context."""
        for variable in self._sums.values():
            variable.assign(0.0)

    def totals(self) -> dict[str, tf.Tensor]:
        """Return the sums over all replicas. In the cross-replica context."""
        return {name: variable.read_value() for name, variable in self._sums.items()}


def reader(
    numbers: Callable[[], Mapping[str, tf.Tensor]], device: str = ""
) -> Callable[[], dict[str, float]]:
    """Make what reads many scalars of the devices as one: in one function, one copy.

    Args:
      numbers: returns them, float32 or integers up to 2**53, by name.
      device: of what is no variable's; "" is TensorFlow's choice.

    Returns:
      Function that returns their values of now.
    """
    names: list[str] = []

    @functools.partial(tf.function, autograph=False)
    def read() -> tf.Tensor:
        with tf.device(device):
            found = numbers()
            names[:] = found
            return tf.stack([tf.cast(value, tf.float64) for value in found.values()])

    def values() -> dict[str, float]:
        found = read().numpy().tolist()  # names them when it is traced
        return dict(zip(names, found, strict=True))

    return values


def scalars(prefix: str, numbers: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return scalars for `reader`, of scalars and vectors by name; see `gathered`."""
    found: dict[str, tf.Tensor] = {}
    for name, value in numbers.items():
        if value.shape.rank == 0:
            found[f"{prefix}{name}"] = value
        else:
            parts = enumerate(tf.unstack(value))
            found |= {f"{prefix}{name}/{i}": part for i, part in parts}
    return found


def gathered(prefix: str, read: Mapping[str, float]) -> dict[str, float | list[float]]:
    """Return what `scalars` has taken apart, of all that was read."""
    found: dict[str, Any] = {}
    for key, value in read.items():
        if key.startswith(prefix):
            name, part, _ = key.removeprefix(prefix).partition("/")
            if part:
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
    return found


def equal_on_replicas(value: float) -> tf.Variable:
    """Make a scalar that all replicas set to equal values, to be read from the first.

    To be made under the strategy's scope.
    """
    return tf.Variable(
        tf.constant(value),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def is_in_top(
    k: int, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Return bool[B]: whose label is among the k largest logits.

    Args:
      k: how many guesses count; more than there are classes means all of them.
      labels: int32[B]; masked entries may hold anything, -1 by convention.
      logits: float32[B, C].
      mask: bool[B], False for what is not an image.
    """
    hit = tf.math.in_top_k(tf.maximum(labels, 0), logits, min(k, logits.shape[-1] or k))
    return hit & mask


def correct_in_top(
    k: int, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Count the images whose label is among the k largest logits; as `is_in_top`."""
    hit = is_in_top(k, labels, logits, mask)
    return tf.reduce_sum(tf.cast(hit, tf.float32))
