"""LARS and LAMB, which scale the step of each layer, as their papers write them."""

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule


class Layerwise(keras.Optimizer):
    """What LARS and LAMB share: each kernel moves in proportion to its own norm.

    Biases, batch norm and whatever else is not to decay move as if there were no
    layers, as in MLPerf's LARS and in the LAMB authors' code: a batch norm's offset,
    which starts from zero, would hardly ever leave it.
    """

    def _is_scaled(self, variable: tf.Variable) -> bool:
        # By rank: a strategy hands in tf.Variables, which have lost Keras' names.
        return len(variable.shape) > 1 and self._use_weight_decay(variable)

    def _apply_weight_decay(self, variables) -> None:
        """Do nothing of what Keras does: the decay is a part of `update_step`."""


class LARS(Layerwise):
    """Layer-wise adaptive rate scaling (arXiv 1708.03888, algorithm 1).

    With g the gradient of a kernel w:

        ratio = trust_coefficient |w| / (|g| + weight_decay |w| + epsilon)
        m = momentum m + learning_rate ratio (g + weight_decay w)
        w = w - m

    The ratio is one where all weights are zero; there the paper's would keep them so.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        *,
        momentum: float,
        weight_decay: float,
        trust_coefficient: float,
        epsilon: float,
        **keywords,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **keywords)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.epsilon = epsilon

    def build(self, variables) -> None:
        """Create the slots."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Update one variable."""
        momentum = self._momentums[self._get_variable_index(variable)]
        step = gradient
        if self._is_scaled(variable):
            length = tf.norm(variable)
            size = tf.norm(gradient) + self.weight_decay * length + self.epsilon
            ratio = tf.where(length > 0, self.trust_coefficient * length / size, 1.0)
            step = ratio * (gradient + self.weight_decay * variable)
        self.assign(momentum, self.momentum * momentum + learning_rate * step)
        self.assign_sub(variable, momentum)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for Keras' serialisation."""
        own = ("momentum", "trust_coefficient", "epsilon")
        return super().get_config() | {name: getattr(self, name) for name in own}


class LAMB(Layerwise, keras.optimizers.Lamb):
    """Keras' Lamb with the decay where the paper has it (arXiv 1904.00962, alg. 2).

    With r Adam's step for a kernel w:

        w = w - learning_rate |w| / |r + weight_decay w| (r + weight_decay w)

    Keras decays by learning_rate weight_decay w instead, outside of the ratio: less
    by the factor |w| / |r|, which is what makes rates of one layer fit another.
    """

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        moments = (
            (self._momentums[index], self.beta_1, gradient),
            (self._velocities[index], self.beta_2, tf.square(gradient)),
        )
        updates = tf.cast(self.iterations + 1, tf.float32)
        for average, beta, value in moments:
            self.assign_add(average, (1 - beta) * (value - average))
        mean, square = (m / (1 - beta**updates) for m, beta, _ in moments)
        step = mean / (tf.sqrt(square) + self.epsilon)
        if self._is_scaled(variable):
            step += self.weight_decay * variable
            length, size = tf.norm(variable), tf.norm(step)
            both = tf.logical_and(length > 0, size > 0)
            step *= tf.where(both, length / size, 1.0)
        self.assign_sub(variable, learning_rate * step)
