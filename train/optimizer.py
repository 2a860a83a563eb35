"""Optimizers that follow the reference where Keras' own do not."""

from collections.abc import Sequence

import keras
from keras.optimizers.schedules import LearningRateSchedule

from train.errors import UserError


class RMSprop(keras.optimizers.RMSprop):
    """Keras' RMSprop with TF1's start: the mean square begins at one, not at zero.

    With that single change the two agree to float noise. From zero, the first updates
    would be 1/sqrt(1 - rho) times too long.
    """

    def build(self, variables) -> None:
        """Creates the slots and sets the mean squares to one."""
        if self.built:
            return
        super().build(variables)
        for velocity in self._velocities:
            velocity.assign(keras.ops.ones_like(velocity))
        self._count_steps_locally()

    def _count_steps_locally(self) -> None:
        # Keras' assign_add on the distributed counter becomes an all-to-all of int64,
        # which TPUs refuse. Every replica adds the same one to its own copy instead.
        counter = self.iterations
        counter.assign_add = lambda value: counter.value.assign_add(value)


def rmsprop(
    learning_rate: float | LearningRateSchedule,
    *,
    rho: float = 0.9,
    momentum: float = 0.9,
    epsilon: float = 1e-3,
) -> RMSprop:
    """The reference's optimizer: epsilon stands inside the square root."""
    return RMSprop(learning_rate, rho=rho, momentum=momentum, epsilon=epsilon)


def scale_learning_rates(optimizer: keras.Optimizer, factors: Sequence[float]) -> None:
    """Gives every variable its own learning rate, a multiple of the common one.

    It is the length of the step that is scaled: scaled gradients would change nothing
    in an optimizer that divides by their size.

    Args:
      optimizer: any that is built already.
      factors: in the order of the variables that it was built with.

    Raises:
      UserError: the optimizer decays weights by itself, which would not be scaled.
    """
    if optimizer.weight_decay:
        raise UserError(
            "learning_rate_factors do not reach the weight_decay of the optimizer "
            f"{optimizer.name}; use Experiment.weight_decay, which is part of the loss"
        )
    update = optimizer.update_step

    def update_step(gradient, variable, learning_rate) -> None:
        # A strategy hands in tf.Variables, which have lost Keras' path; their index is
        # what Keras' own optimizers find their slots by.
        factor = factors[optimizer._get_variable_index(variable)]
        update(gradient, variable, learning_rate * factor)

    optimizer.update_step = update_step
