"""Layers that hold the largest of a choice, and compute what a selection says."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from common.errors import UserError
from models.batch_norm import NormalizationByBatch
from models.blocks import LayerMaker
from search.supernets.counts import Table


class NotSaved(keras.Layer):
    """A layer of a supernet, which is not saved as a model: it is its space."""

    def get_config(self):
        """Refuse.

        Raises:
          UserError: always; says what to do.
        """
        raise UserError(
            f"{self.name}: a supernet is not saved as a model: keep its checkpoint and "
            "build it from its space again, or take a network over into a model of "
            "its own"
        )


class Choices(NotSaved):
    """Gives all blocks the selection: float32[size], whatever the images.

    Args:
      initial: what the weight `selection` begins with, float32[size].
      **kwargs: keras.Layer's.

    Attributes:
      selection: the weight that counts when nobody says otherwise, not trainable.
    """

    def __init__(self, initial: np.ndarray, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self._initial = np.asarray(initial, np.float32)
        # MirroredStrategy traces every replica in a thread of its own.
        self._given = threading.local()

    def build(self, input_shape):
        """Create the selection."""
        self.selection = self.add_weight(
            name="selection",
            shape=self._initial.shape,
            initializer=lambda shape, dtype: ops.reshape(
                ops.convert_to_tensor(self._initial, dtype), shape
            ),
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="only_first_replica",
        )

    @contextlib.contextmanager
    def selected(self, selection: Any) -> Iterator[None]:
        """Let calls of the model within use this selection, in this thread.

        Args:
          selection: float32[size], a tensor; it counts when the call is traced.
        """
        before = getattr(self._given, "selection", None)
        self._given.selection = selection
        try:
            yield
        finally:
            self._given.selection = before

    def call(self, inputs):
        """Return the selection given in this thread, or the weight."""
        given = getattr(self._given, "selection", None)
        return ops.convert_to_tensor(self.selection if given is None else given)

    def compute_output_spec(self, inputs):
        """Return what a selection looks like; there is no batch."""
        return keras.KerasTensor(self._initial.shape, dtype="float32")


class BatchNorm(NormalizationByBatch):
    """Batch normalisation by the batch's statistics always, in evaluation too.

    Moving statistics would be those of a mixture of networks: of none of them. Over
    several replicas the statistics are shared in training alone.
    """

    def call(self, inputs, training=None):
        """Normalise float[N, ..., C]."""
        if training:
            # Copies are tensors: what has a custom gradient may not read variables.
            gamma, beta = ops.copy(self.gamma), ops.copy(self.beta)
            normalize = ops.custom_gradient(self._normalize_by_batch)
            return normalize(inputs, gamma, beta, ops.zeros_like(gamma))[0]
        x = ops.cast(inputs, "float32")
        mean, square = ops.unstack(self._two_means(x, ops.square(x)))
        variance = ops.maximum(square - ops.square(mean), 0.0)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        outputs = x * self._tile(scale) + self._tile(self.beta - mean * scale)
        return ops.cast(outputs, self.compute_dtype)


class CroppedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel holds smaller ones around its centre."""

    def call(self, inputs, taps=None):
        """Convolve by the taps float[height, width, 1, 1] of the kernel, or by all."""
        if taps is None:
            return super().call(inputs)
        kernel = ops.multiply(self.kernel, taps)
        outputs = ops.conv(
            inputs, kernel, self.strides, self.padding, data_format="channels_last"
        )
        return outputs + self.bias if self.use_bias else outputs


class CroppedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution whose kernel holds smaller ones around its centre."""

    def call(self, inputs, taps=None):
        """Convolve by the taps float[height, width, 1, 1] of the kernel, or by all."""
        if taps is None:
            return super().call(inputs)
        kernel = ops.multiply(self.kernel, taps)
        return ops.depthwise_conv(
            inputs, kernel, self.strides, self.padding, data_format="channels_last"
        )


class SupernetMaker(LayerMaker):
    """Makes the layers of a supernet: those of a network, but for the choices."""

    def conv(self, name: str, filters: int, kernel_size: int = 1, **kwargs: Any):
        """Make a convolution that can be cropped."""
        arguments = {"filters": filters, "kernel_size": kernel_size, **kwargs}
        return self._padded(CroppedConv2D, name, "kernel", **arguments)

    def depthwise(self, name: str, kernel_size: int, strides: int):
        """Make a depthwise convolution that can be cropped."""
        arguments = {"kernel_size": kernel_size, "strides": strides}
        return self._padded(CroppedDepthwiseConv2D, name, "depthwise", **arguments)

    def bn(self, name: str, **kwargs: Any) -> list[keras.Layer]:
        """Make the batch normalisation behind the layer `name`."""
        arguments = {**(self.batch_norm or {}), **kwargs}
        return [BatchNorm(dtype=self.dtype, name=f"{name}_bn", **arguments)]


def first_tap(kernel_size: int, strides: int, size: int, padding: str) -> int:
    """Return how many pixels before an output's own the kernel begins.

    Args:
      kernel_size: of the convolution.
      strides: of it.
      size: height and width of its input.
      padding: "same", or "symmetric" as of LayerMaker.
    """
    if padding == "same" or strides == 1 or kernel_size % 2 == 0:
        outputs = -(-size // strides)
        return max((outputs - 1) * strides + kernel_size - size, 0) // 2
    return (strides - 1 + kernel_size - 1) // 2


def taps(kernel_sizes: Sequence[int], strides: int, size: int, padding: str):
    """Return where each kernel lies in the largest: slices of its height and width.

    The centre, as a rule; but of even sizes, and with strides, what the smaller
    kernel's own padding makes of it.
    """
    largest = max(kernel_sizes)
    begin = first_tap(largest, strides, size, padding)
    found = []
    for kernel_size in kernel_sizes:
        start = begin - first_tap(kernel_size, strides, size, padding)
        assert 0 <= start <= largest - kernel_size
        found.append(slice(start, start + kernel_size))
    return found


def tap_table(kernel_sizes: Table, where: Sequence[slice]) -> Table | None:
    """Return the taps float32[sizes, height, width, 1, 1]; None where all have all."""
    largest = kernel_sizes.largest
    if not kernel_sizes.axes or (kernel_sizes.entries == largest).all():
        return None
    entries = np.zeros((len(where), largest, largest, 1, 1), np.float32)
    for i, one in enumerate(where):
        entries[i, one, one] = 1
    return Table(kernel_sizes.axes, entries)


def mean_of_parts(x: Any, parts: int) -> Any:
    """Return float[B, n, n, C], the means over the pixels of the parts of images."""
    if parts == 1:
        return ops.mean(x, axis=(1, 2), keepdims=True)
    batch, height, width, channels = ops.shape(x)
    n = parts
    shape = (batch, height // n, n, width // n, n, channels)
    return ops.mean(ops.reshape(x, shape), axis=(1, 3))


def fit_channels(x: Any, channels: int) -> Any:
    """Add channels of zeros, or leave the last ones out."""
    missing = channels - x.shape[-1]
    if missing > 0:
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
    return x[..., :channels] if missing else x


def scaled(x: Any, factors: Any) -> Any:
    """Multiply by factors in the tensor's dtype; None are ones."""
    return x if factors is None else x * ops.cast(factors, x.dtype)
