"""Dynamic loss scaling: gradients that float16 can hold.

float16 ends at 65,504, and below 6e-8 there is nothing: small gradients would vanish
on their way back through the layers. So the loss is multiplied by a power of two, the
gradients are divided by it again in float32, and where one has overflown the update is
left out and the scale halves (Micikevicius et al., arXiv 1710.03740, section 3.2):

    scale = 2 * scale after GROWTH_STEPS updates in a row, else
            scale / 2 after an update that is not finite

Keras' LossScaleOptimizer has the same rule and numbers, but leaves out neither the
moving statistics nor the average, and its step stands still where it skips: the
position in the data would have to be counted beside it. Here a step that is left out
is a step: the next one takes the next batch, learning rate, masks and the average's
decay follow the number of steps, and a loop on the device has as many batches as ever.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from train.distribution.replica import assign_equal, update_where

INITIAL = 2.0**15  # as in Keras
GROWTH_STEPS = 2000  # as in Keras and PyTorch

# At the lowest the loss is not scaled: what is not finite there, scaling cannot mend.
# Keras and PyTorch would go on below it for ever.
LOWEST = 1.0
# Where gradients are zero nothing else ends the growth; apex stops here, too.
HIGHEST = 2.0**24

# Of the names in a checkpoint.
PART = "loss_scale/"


class LossScale:
    """The scale, and what tells when it moves; to be made under the strategy's scope.

    All replicas hold equal values: they decide by the reduced gradients.

    Attributes:
      scale: float32, a power of two in [LOWEST, HIGHEST], of the next step.
      good_steps: int64, updates since the scale has moved.
      skipped_steps: int64, updates that were left out so far.
    """

    def __init__(self):
        self.scale = _variable(INITIAL, tf.float32)
        self.good_steps = _variable(0, tf.int64)
        self.skipped_steps = _variable(0, tf.int64)

    def variables(self) -> dict[str, tf.Variable]:
        """Return what a checkpoint holds, by name."""
        return {f"{PART}{name}": variable for name, variable in vars(self).items()}

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Return float32[], the loss whose gradients are those of float16 layers."""
        return loss * self.scale

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return float32 gradients of the loss itself; exact, by a power of two."""
        factor = 1.0 / self.scale
        return [gradient * factor for gradient in gradients]

    def cannot_mend(self, is_finite: tf.Tensor) -> tf.Tensor:
        """Return bool[]: an update is not finite, and not for its scale."""
        return tf.logical_not(is_finite) & (self.scale <= LOWEST)

    def guard(
        self,
        is_finite: tf.Tensor,
        variables: Sequence[tf.Variable],
        update: Callable[[], None],
    ) -> None:
        """Update and move the scale; leave all as it was where that is not finite.

        To be called in a replica context; see `replica.update_where`.

        Args:
          is_finite: bool[], equal on all replicas.
          variables: all that the update changes, the counter of steps excepted.
          update: changes them.
        """
        update_where(is_finite, variables, update)
        self._move(is_finite)

    def _move(self, is_finite: tf.Tensor) -> None:
        """Set the scale of the next step."""
        zero = tf.zeros([], tf.int64)
        good_steps = tf.where(is_finite, self.good_steps + 1, zero)
        grows = good_steps >= GROWTH_STEPS
        higher = tf.where(grows, tf.minimum(self.scale * 2, HIGHEST), self.scale)
        lower = tf.maximum(self.scale / 2, LOWEST)
        skipped = tf.cast(tf.logical_not(is_finite), tf.int64)
        assign_equal(
            [self.scale, self.good_steps, self.skipped_steps],
            [
                tf.where(is_finite, higher, lower),
                tf.where(grows, zero, good_steps),
                self.skipped_steps + skipped,
            ],
        )


def _variable(value: float, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(
        tf.constant(value, dtype),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
