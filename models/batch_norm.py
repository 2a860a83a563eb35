"""Batch normalisation with a gradient of its own, over groups and replicas."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from models.errors import require

MeanReducer = Callable[[Any], Any]
StatisticAssigner = Callable[[keras.Variable, Any], None]


def _assign(statistic: keras.Variable, value: Any) -> None:
    statistic.assign(value)


def _relu(z):
    return ops.relu(z), lambda dy: ops.where(z > 0, dy, 0.0)


def _silu(z):
    gate = ops.sigmoid(z)
    return z * gate, lambda dy: dy * (gate * (1 + z * (1 - gate)))


# From z to its activation, and the function from a gradient behind it to that of z.
_ACTIVATIONS = {keras.activations.relu: _relu, keras.activations.silu: _silu}


def has_gradient(activation: Callable) -> bool:
    """Whether BatchNormalization can be called with this activation of Keras'."""
    return activation in _ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class _Batch:
    """What normalises a batch: a float32 for each logical channel."""

    mean: Any
    variance: Any
    inverse: Any  # of the standard deviation
    scale: Any  # normalised = x * scale + offset
    offset: Any


class NormalizationByBatch(keras.Layer):
    """What normalises a batch by its own statistics, with a gradient of its own.

    The batch's variance is E[x^2] - E[x]^2: both sums come from one reading of the
    activations, which is what this layer spends its time on. It is biased, as in the
    reference.

    Args:
      epsilon: added to the variance.
      groups: see BatchNormalization.
      reduce_mean: see BatchNormalization.
      **kwargs: keras.Layer's.
    """

    gamma: keras.Variable
    beta: keras.Variable

    def __init__(
        self,
        *,
        epsilon: float = 1e-3,
        groups: int = 1,
        reduce_mean: MeanReducer | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        require(epsilon > 0, f"epsilon must be above 0, not {epsilon}")
        require(groups >= 1, f"groups must be 1 or more, not {groups}")
        self.epsilon = epsilon
        self.groups = groups
        self._reduce_mean = reduce_mean or (lambda means: means)

    def build(self, input_shape):
        """Create gamma and beta, in this order."""
        self.gamma = self._add_logical(input_shape, "gamma", "ones")
        self.beta = self._add_logical(input_shape, "beta", "zeros")

    def _add_logical(self, input_shape, name: str, initializer: str, **kwargs: Any):
        """Create a weight that has one number for each logical channel."""
        channels = input_shape[-1]
        require(
            channels % self.groups == 0,
            f"{self.name}: {channels} channels do not divide into {self.groups} groups",
        )
        return self.add_weight(
            name=name,
            shape=(channels // self.groups,),
            initializer=initializer,
            dtype="float32",
            autocast=False,
            **kwargs,
        )

    def _normalize_by_batch(self, inputs, gamma, beta, shift):
        """Normalise by the batch's statistics, with the gradient written out.

        A derived one reads the activations more often, and keeps them in float32.

        Returns:
          (outputs, mean, variance), and the function from their gradients to those
          of the arguments.
        """
        x = self._shifted(inputs, shift)
        batch = self._measure(x, gamma, beta)

        def gradient(*upstream):
            # An argument per output in TensorFlow, a tuple of them in JAX. Only the
            # moving statistics take mean and variance, so these have no gradient.
            dy = ops.cast(keras.tree.flatten(upstream)[0], "float32")
            # Anew, to keep from the forward pass the inputs only, in their own dtype.
            x = self._shifted(inputs, shift)
            means = self._two_means(dy, dy * x)
            dgamma, dbeta, slope, offset = self._means_to_gradients(means, batch, x)
            dx = dy * self._tile(batch.scale) - x * self._tile(slope) + offset
            return ops.cast(dx, inputs.dtype), dgamma, dbeta, ops.zeros_like(shift)

        outputs = ops.cast(self._normalized(x, batch), self.compute_dtype)
        return (outputs, batch.mean + shift, batch.variance), gradient

    def _activate_by_batch(self, activate, inputs, gamma, beta, shift):
        """Normalise by the batch's statistics, activate, and average over the pixels.

        Squeeze-and-excite turns the means into factors, and its gradient is known only
        when all pixels were read. To sum up the gradient over the batch would take
        another reading. But it is linear: what comes back through the means is one
        number for each sample and channel, and can be multiplied in after summation.
        So all sums are made, sample by sample, in the reading that
        squeeze-and-excite's gradient needs, where XLA fuses them.

        Returns:
          (outputs, means, mean, variance), and the function from their gradients to
          those of the arguments.
        """
        x = self._shifted(inputs, shift)
        batch = self._measure(x, gamma, beta)
        outputs, _ = activate(self._normalized(x, batch))

        def gradient(*upstream):
            dy, dmeans = keras.tree.flatten(upstream)[:2]
            x, dy = self._shifted(inputs, shift), ops.cast(dy, "float32")
            # What a mean's gradient gives to each of its pixels.
            pixels = ops.cast(math.prod(ops.shape(x)[1:-1]), "float32")
            dpixel = ops.cast(dmeans, "float32") / pixels
            _, through = activate(self._normalized(x, batch))
            direct = through(dy)
            sums = [
                _over_pixels(ops.sum, direct)
                + dpixel * _over_pixels(ops.sum, through(ops.ones_like(x))),
                _over_pixels(ops.sum, direct * x)
                + dpixel * _over_pixels(ops.sum, through(x)),
            ]
            means = self._two_means(*sums) / pixels
            dgamma, dbeta, slope, offset = self._means_to_gradients(means, batch, x)
            scale = self._tile(batch.scale)
            # The second product is one of each sample, not of each pixel.
            dx = through(dy * scale + dpixel * scale) - x * self._tile(slope) + offset
            return ops.cast(dx, inputs.dtype), dgamma, dbeta, ops.zeros_like(shift)

        means = _over_pixels(ops.mean, outputs)
        outputs, means = (ops.cast(v, self.compute_dtype) for v in (outputs, means))
        return (outputs, means, batch.mean + shift, batch.variance), gradient

    def _shifted(self, inputs, shift):
        """Put zero where the batch is expected, at the moving mean, in float32.

        The result does not depend on where zero is, but far from it E[x^2] - E[x]^2
        and x * scale + offset lose their digits. The moving mean is known before the
        batch is read, and all replicas agree on it. From there scale and offset are as
        exact as to subtract the batch's mean, and without XLA one reading of the
        activations less.
        """
        return ops.cast(inputs, "float32") - self._tile(shift)

    def _measure(self, x, gamma, beta) -> _Batch:
        """Return the statistics of the batch and of those of other replicas."""
        means = self._reduce_mean(self._two_means(x, ops.square(x)))
        mean, mean_of_squares = ops.unstack(means)
        # Rounding can bring the difference below zero, where rsqrt is not a number.
        variance = ops.maximum(mean_of_squares - ops.square(mean), 0.0)
        inverse = ops.rsqrt(variance + self.epsilon)
        scale = gamma * inverse
        return _Batch(mean, variance, inverse, scale, beta - mean * scale)

    def _normalized(self, x, batch: _Batch):
        return x * self._tile(batch.scale) + self._tile(batch.offset)

    def _means_to_gradients(self, means, batch: _Batch, x):
        """Return (dgamma, dbeta, slope, offset) of the means of dy and dy * x.

        The inputs' gradient is dy * scale - x * slope + offset, offset tiled.
        """
        dy_mean, dy_x_mean = ops.unstack(means)
        dy_normalized = (dy_x_mean - batch.mean * dy_mean) * batch.inverse
        means = ops.stack([dy_mean, dy_normalized])
        # Of one replica: the optimizer adds up the replicas.
        dbeta, dgamma = ops.unstack(means * self._count(x))
        # scale * (dy - mean of dy - normalised * mean of dy * normalised)
        dy_mean, dy_normalized = ops.unstack(self._reduce_mean(means))
        slope = batch.scale * batch.inverse * dy_normalized
        offset = slope * batch.mean - batch.scale * dy_mean
        return dgamma, dbeta, slope, self._tile(offset)

    def _two_means(self, first, second):
        """Return two tensors' means by logical channel: float[2, C / groups]."""
        axes = tuple(range(len(first.shape) - 1))
        means = ops.stack([ops.mean(first, axis=axes), ops.mean(second, axis=axes)])
        # Not a reshape of the tensors: to split the last axis can move all of one.
        return ops.mean(ops.reshape(means, (2, self.groups, -1)), axis=1)

    def _count(self, x):
        """Return how many values a logical channel has."""
        return ops.cast(math.prod(ops.shape(x)[:-1]) * self.groups, "float32")

    def _tile(self, values):
        """Repeat the value of each logical channel for every group."""
        return ops.tile(values, (self.groups,)) if self.groups > 1 else values

    def compute_output_shape(self, input_shape):
        """Return the inputs' shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments, but for the reducer from outside."""
        own = {"epsilon": self.epsilon, "groups": self.groups}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="efficientnet_x")
class BatchNormalization(NormalizationByBatch):
    """Batch normalisation over the last axis, in float32 whatever the policy.

    The batch's variance is E[x^2] - E[x]^2: both sums come from one reading of the
    activations, which is what this layer spends its time on. It is biased, in the
    moving variance too, as in the reference.

    Keras' layer leaves every replica with moving statistics of its own. Here they
    are averaged over the replicas at each update, so a checkpoint holds them all.

    Args:
      momentum: of the moving statistics, in [0, 1).
      epsilon: added to the variance.
      groups: the channels are this many copies of the same logical channels, copy
        after copy, as space-to-depth leaves them. Copies share their parameters
        and statistics, as if they were pixels.
      reduce_mean: from this replica's means to those of a group of replicas, for a
        trainer that normalises over several. It is the trainer's, so not in the
        config.
      **kwargs: keras.Layer's.

    Attributes:
      assign_statistic: from a moving statistic and its new value to nothing. It
        assigns at once; a trainer may put another function here, to average the
        values of all layers over the replicas together.
    """

    def __init__(
        self,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        groups: int = 1,
        reduce_mean: MeanReducer | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            epsilon=epsilon, groups=groups, reduce_mean=reduce_mean, **kwargs
        )
        require(0 <= momentum < 1, f"momentum must be in [0, 1), not {momentum}")
        self.momentum = momentum
        self.assign_statistic: StatisticAssigner = _assign

    def build(self, input_shape):
        """Create gamma, beta, moving_mean and moving_variance, in this order."""
        super().build(input_shape)
        statistic = {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self._add_logical(
            input_shape, "moving_mean", "zeros", **statistic
        )
        self.moving_variance = self._add_logical(
            input_shape, "moving_variance", "ones", **statistic
        )

    def call(self, inputs, training=None, activation=None):
        """Normalise by the batch's statistics in training, else by the moving ones.

        Args:
          inputs: float[N, ..., C].
          training: whether the batch's statistics are used.
          activation: one of Keras' that `has_gradient` accepts.

        Returns:
          The inputs normalised. With an activation a pair: the activation of that,
          and its mean over the pixels, float[N, 1, ..., C]; to ask for both at once
          saves the gradient a reading of the inputs and of what comes from above.
        """
        if not (training and self.trainable):
            outputs = self._normalize_by_moving(inputs)
            if activation is None:
                return outputs
            outputs = activation(outputs)
            return outputs, _over_pixels(ops.mean, outputs)

        def normalize(*arguments):
            if activation is None:
                return self._normalize_by_batch(*arguments)
            return self._activate_by_batch(_ACTIVATIONS[activation], *arguments)

        # Copies are tensors: what has a custom gradient may not read variables.
        parameters = map(ops.copy, (self.gamma, self.beta, self.moving_mean))
        *outputs, mean, variance = ops.custom_gradient(normalize)(inputs, *parameters)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return outputs[0] if activation is None else tuple(outputs)

    def _normalize_by_moving(self, inputs):
        """Apply what the layer is in inference: one factor and one term per channel."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        offset = self.beta - self.moving_mean * scale
        x = ops.cast(inputs, "float32")
        outputs = x * self._tile(scale) + self._tile(offset)
        return ops.cast(outputs, self.compute_dtype)

    def _move(self, statistic, value):
        """Move a moving statistic towards the batch's value."""
        moved = statistic * self.momentum + value * (1.0 - self.momentum)
        self.assign_statistic(statistic, moved)

    def get_config(self):
        """Return the constructor's arguments, but for the reducer from outside."""
        return {**super().get_config(), "momentum": self.momentum}


def _over_pixels(reduce, x):
    """Reduce over all axes but those of samples and channels, which stay."""
    return reduce(x, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True)
