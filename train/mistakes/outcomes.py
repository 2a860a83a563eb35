"""What an evaluation says of each image, in the order of the records.

It comes from the pass that the scores come from: what is right here is right there.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from input_pipeline.stream import InputHost

GUESSES = 3  # likeliest classes of an image that are kept
NOTHING = -1  # the class of an image whose logits are not finite
_LABEL, _RIGHT, _FIRST = range(3)  # columns of a row, before its guesses


class OutcomeLog:
    """A row an image, kept where it is computed until the pass is over.

    Each replica has the batches of its own, one behind the other: 32 bytes an image,
    and nothing travels before the end of the pass.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, *, steps: int, batch: int, classes: int
    ):
        """Make it under a strategy's scope.

        Args:
          strategy: of the evaluation.
          steps: batches of a pass.
          batch: images of a replica in each.
          classes: logits of an image.
        """
        self._strategy, self._steps = strategy, steps
        self._guesses = min(GUESSES, classes)
        width = _FIRST + 2 * self._guesses
        own = functools.partial(
            tf.Variable,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.NONE,
        )
        with strategy.scope():
            # Float32 holds the number of a class exactly to 16.7 million.
            self._rows = own(tf.zeros([steps, batch, width]), name="outcomes")
            self._oldest = own(tf.zeros([], tf.int64), name="oldest_outcomes")
        self._read = tf.function(self._of_all_replicas, autograph=False)

    def add(self, labels: tf.Tensor, logits: tf.Tensor, right: tf.Tensor) -> None:
        """Put a batch behind those before, in place of the oldest one.

        In a replica context. As many batches as a pass has leave nothing of the pass
        before.

        Args:
          labels: int32[B], -1 for what is no image.
          logits: float32[B, C].
          right: bool[B], as the scores count it.
        """
        # Of the logits, as the scores have it: close ones have equal probabilities.
        _, guesses = tf.math.top_k(logits, self._guesses)
        shares = tf.gather(tf.nn.softmax(logits), guesses, batch_dims=1)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1, keepdims=True)
        guesses = tf.where(finite, guesses, NOTHING)
        row = tf.concat(
            [
                tf.cast(
                    tf.stack([labels, tf.cast(right, labels.dtype)], 1), tf.float32
                ),
                tf.cast(guesses, tf.float32),
                tf.where(finite, shares, 0.0),
            ],
            axis=1,
        )
        oldest = self._oldest.read_value()
        # By the op: variables of replicas have no `scatter_update`, and any other way
        # to write moves the rows of the whole pass, batch for batch.
        tf.raw_ops.ResourceScatterUpdate(
            resource=self._rows.handle, indices=oldest, updates=row
        )
        self._oldest.assign((oldest + 1) % self._steps)

    def read(self) -> np.ndarray:
        """Return float32[R, steps, batch, width], of all replicas, in every process."""
        # Its trace and not the function, which warns of traces where a process has
        # many evaluations.
        return self._read.get_concrete_function()().numpy()

    def _of_all_replicas(self) -> tf.Tensor:
        """Put the rows together on each replica by an all-reduce, as training does.

        Then one copy comes to the host; `Strategy.gather` would ask every replica of a
        slice for its own.
        """

        def own_among_zeros() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            number = context.replica_id_in_sync_group
            own = tf.one_hot(number, context.num_replicas_in_sync)
            rows = tf.roll(self._rows.read_value(), -self._oldest.read_value(), axis=0)
            rows = own[:, None, None, None] * rows[None]
            return context.all_reduce(tf.distribute.ReduceOp.SUM, rows)

        rows = self._strategy.run(own_among_zeros)
        return self._strategy.experimental_local_results(rows)[0]


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The N images of an evaluation, one behind the other.

    Attributes:
      position: int64[N], of its record in the split; -1 where nobody knows.
      label: int64[N], its class.
      predicted: int64[N], the class that it was taken for: its own where it is right,
        be it one of several with the largest logit; NOTHING where none is a number.
      guesses: int64[N, K], the likeliest classes, the first one first.
      probabilities: float32[N, K], of these.
    """

    position: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    guesses: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, positions: np.ndarray | None) -> "Outcomes":
        """Make them of what an `OutcomeLog` has, without padding and bad records.

        Args:
          rows: see `OutcomeLog.read`.
          positions: int64[R, steps, batch], see `positions`; None where the batches do
            not come as that says.
        """
        position = np.full(rows.shape[:3], -1) if positions is None else positions
        position, rows = position.reshape(-1), rows.reshape(-1, rows.shape[-1])
        order = np.argsort(position, kind="stable")
        order = order[rows[order, _LABEL] >= 0]
        rows, position = rows[order], position[order]
        if positions is not None and (position < 0).any():
            raise RuntimeError("the evaluation has taken padding for images")
        numbers = rows[:, : _FIRST + (rows.shape[1] - _FIRST) // 2].astype(np.int64)
        label, guesses = numbers[:, _LABEL], numbers[:, _FIRST:]
        right = numbers[:, _RIGHT] == 1
        # Of equal logits another one may come first.
        first = np.where(guesses[:, 0] == label, NOTHING, guesses[:, 0])
        return cls(
            position=position,
            label=label,
            predicted=np.where(right, label, first),
            guesses=guesses,
            probabilities=rows[:, _FIRST + guesses.shape[1] :],
        )

    @property
    def right(self) -> np.ndarray:
        """Return bool[N]."""
        return self.predicted == self.label

    def require(self, *, images: float, right: float) -> None:
        """Raise RuntimeError unless they are what the scores have counted."""
        found = len(self.label), int(self.right.sum())
        if found != (images, right):
            raise RuntimeError(
                f"the evaluation counts {right:g} of {images:g} images as right, and "
                f"its images one by one come to {found[1]} of {found[0]}"
            )

    def worst(self, most: int) -> np.ndarray:
        """Return the indices of the surest mistakes, the surest one first.

        Args:
          most: how many. Equally sure ones are in the order of their records.
        """
        wrong = np.flatnonzero(~self.right)
        sure = self.probabilities[wrong, 0]
        return wrong[np.lexsort((self.position[wrong], -sure))][:most]

    def counts(self) -> dict[tuple[int, int], int]:
        """Return images by their class and the one that they were taken for."""
        pairs = np.stack([self.label, self.predicted], 1)
        found, images = np.unique(pairs, axis=0, return_counts=True)
        keys = map(tuple, found.tolist())
        return dict(zip(keys, images.tolist(), strict=True))


def positions(shape: Sequence[int], *, input_hosts: int, images: int) -> np.ndarray:
    """Return which record of a split each row of an `OutcomeLog` is of.

    An input host has consecutive records (`input_pipeline.in_order.finite`), and hands
    out batches to its replicas in turn.

    Args:
      shape: (R, steps, batch) of the rows.
      input_hosts: how many share the split; they have equally many of the replicas.
      images: of the split.

    Returns:
      int64[R, steps, batch]; -1 for the padding behind the last record of a host.
    """
    replicas, steps, batch = shape
    per_host = replicas // input_hosts
    replica, step, image = np.indices((replicas, steps, batch), dtype=np.int64)
    host, turn = replica // per_host, replica % per_host
    own = (step * per_host + turn) * batch + image
    shares = [InputHost(n, input_hosts).share(images) for n in range(input_hosts)]
    begins = np.cumsum([0, *shares[:-1]])
    return np.where(own < np.take(shares, host), np.take(begins, host) + own, -1)
