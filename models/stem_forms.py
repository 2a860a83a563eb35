"""Other forms of the same computation that accelerators run faster.

The first layers work on large images of few channels, which leaves matrix units and
memory lanes idle. Moving the pixels into the channels first (space-to-depth) gives the
same sums in a better shape: the stem on 12 channels, or, with 4x4 pixels a patch, on
48, where the learned 2x2 stride-2 convolution behind it becomes a 1x1.

The layers here hold the variables of the layers that they replace, kernel for kernel,
and rearrange them at every call. So every form trains as the original does, starts
from the same weights, and reads and writes the same checkpoints.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from models.batch_norm import BatchNormalization
from models.errors import require
from models.layers import Normalize
from models.parts import require_built_by_us

_register = keras.saving.register_keras_serializable(package="efficientnet_x")


class _RearrangedConv2D(keras.layers.Conv2D):
    """A convolution whose input has n x n pixels of the original in its channels."""

    def __init__(self, *args: Any, patch_size: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.patch_size = patch_size

    def build(self, input_shape):
        """Create the original's variables."""
        channels, rest = divmod(input_shape[-1], self.patch_size**2)
        require(
            rest == 0, f"{self.name}: {input_shape[-1]} channels hold no whole patches"
        )
        super().build((*input_shape[:-1], channels))
        self.input_spec = None  # which would expect the original's channels

    def compute_output_shape(self, input_shape):
        """Return the inputs' size; see the layers for the channels."""
        return (*input_shape[:-1], self.filters * self._outputs_per_pixel())

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "patch_size": self.patch_size}

    def call(self, inputs):
        """Convolve by the rearranged kernel."""
        outputs = ops.conv(
            inputs,
            self.rearranged_kernel(),
            padding="same",
            data_format="channels_last",
        )
        if self.use_bias:
            outputs += ops.tile(self.bias, (self._outputs_per_pixel(),))
        return outputs

    def rearranged_kernel(self):
        """Return the kernel for patches."""
        raise NotImplementedError

    def _outputs_per_pixel(self) -> int:
        return 1


@_register
class PatchStemConv2D(_RearrangedConv2D):
    """The stem's SAME 3x3 stride-2 convolution, of an image behind SpaceToDepth(n).

    n is 2 or 4 and divides the image. With n = 4, two by two pixels of the original's
    output come out as one, in the channels: [B, H/4, W/4, 4 * filters].
    """

    def __init__(self, filters: int, *, patch_size: int, **kwargs: Any):
        require(
            patch_size in (2, 4), f"the stem's patch_size must be 2 or 4: {patch_size}"
        )
        # What the original convolution has, for the config; the layer's own call
        # never strides.
        original = {"kernel_size": 3, "strides": 2, "padding": "same", **kwargs}
        super().__init__(filters, patch_size=patch_size, **original)

    def _outputs_per_pixel(self) -> int:
        return (self.patch_size // 2) ** 2

    def rearranged_kernel(self):
        """Return the kernel [2, 2, n*n*channels, outputs per pixel * filters]."""
        n = self.patch_size
        channels, filters = self.kernel.shape[2:]
        # On an even image SAME pads below and right only, so the output at row i needs
        # rows 2i to 2i+2: for all outputs of a patch, this patch and the next one.
        shifts = range(0, n, 2)
        kernels = [
            ops.pad(
                self.kernel,
                ((row, 2 * n - 3 - row), (column, 2 * n - 3 - column), (0, 0), (0, 0)),
            )
            for row in shifts
            for column in shifts
        ]
        kernel = ops.concatenate(kernels, axis=-1)
        kernel = ops.reshape(kernel, (2, n, 2, n, channels, len(kernels) * filters))
        kernel = ops.transpose(kernel, (0, 2, 1, 3, 4, 5))
        return ops.reshape(kernel, (2, 2, n * n * channels, len(kernels) * filters))


@_register
class PatchConv2D(_RearrangedConv2D):
    """A 2x2 stride-2 convolution of an image behind SpaceToDepth(2): a 1x1."""

    def __init__(self, filters: int, **kwargs: Any):
        kwargs.pop("patch_size", None)  # of a config; there is only one
        original = {"kernel_size": 2, "strides": 2, "padding": "same", **kwargs}
        super().__init__(filters, patch_size=2, **original)

    def rearranged_kernel(self):
        """Return the kernel [1, 1, 4 * channels, filters]."""
        return ops.reshape(self.kernel, (1, 1, -1, self.filters))


def to_patches(pixels: np.ndarray, patch_size: int) -> np.ndarray:
    """Move pixels into the channels on the host, for `stem_reshuffle="host"`.

    Args:
      pixels: [batch, height, width, channels] of any type.
      patch_size: n, a divisor of height and width.

    Returns:
      [batch, height / n, width / n, n * n * channels], as `tf.nn.space_to_depth`.
    """
    batch, height, width, channels = pixels.shape
    n = patch_size
    require(
        height % n == 0 and width % n == 0,
        f"patch_size {n} does not divide {height}x{width} pixels",
    )
    patches = pixels.reshape(batch, height // n, n, width // n, n, channels)
    patches = patches.transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(batch, height // n, width // n, n * n * channels)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy weights between two forms of one network, so that they give equal logits.

    The forms may differ in the stem and in the input, which have the same variables,
    and in batch norm: it is folded into the convolutions where only `source` has it
    (W' = W * s, b' = beta - mean * s, with s = gamma / sqrt(variance + epsilon)), and
    made the identity plus the bias where only `target` has it.

    Args:
      source: what `build_model` returned; read only.
      target: what `build_model` returned; all its weights are written.

    Raises:
      ModelError: if they are not the same network; nothing is written then.
    """
    names = source.name, target.name
    wanted = _architecture(target)
    for key, value in _architecture(source).items():
        other = wanted.get(key)
        require(
            value == other,
            f"two networks: {key} is {value!r} in {names[0]}, {other!r} in {names[1]}",
        )
    pairs = list(_normalized(source)), list(_normalized(target))
    require(
        len(pairs[0]) == len(pairs[1]),
        f"{names[0]} has {len(pairs[0])} layers with a kernel, {names[1]} has "
        f"{len(pairs[1])}: two networks",
    )
    written = []
    for old, new in zip(*pairs, strict=True):
        shapes = old[0].kernel.shape, new[0].kernel.shape
        require(
            shapes[0] == shapes[1],
            f"{old[0].kernel.path} of {names[0]} has shape {tuple(shapes[0])}, "
            f"{new[0].kernel.path} of {names[1]} {tuple(shapes[1])}",
        )
        epsilons = {norm.epsilon for _, norm in (old, new) if norm is not None}
        require(
            len(epsilons) < 2,
            f"two networks: epsilons of batch norm are {sorted(epsilons)}",
        )
        written += _converted(old, new)
    for variable, value in written:
        variable.assign(value)


def _architecture(model: keras.Model) -> dict[str, Any]:
    """Return what decides on the logits beside the weights and their shapes."""
    require_built_by_us(model)
    facts: dict[str, Any] = {}
    for layer in model.layers:
        if hasattr(layer, "spec"):
            fields = dataclasses.asdict(layer.spec).items()
            facts |= {f"{field} of {layer.name}": value for field, value in fields}
        elif isinstance(layer, Normalize):
            facts |= {"mean_rgb": layer.mean_rgb, "std_rgb": layer.std_rgb}
        elif isinstance(layer, keras.layers.Activation):
            facts[layer.name] = keras.activations.serialize(layer.activation)
    return facts


_Normalized = tuple[Any, BatchNormalization | None]


def _normalized(model: keras.Model) -> Iterator[_Normalized]:
    """Yield every layer with a kernel and the batch norm behind it, if any."""
    leaves = [leaf for layer in model.layers for leaf in _leaves(layer)]
    for leaf, behind in zip(leaves, [*leaves[1:], None], strict=True):
        if not isinstance(leaf, BatchNormalization):
            yield leaf, behind if isinstance(behind, BatchNormalization) else None


def _leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield a layer's parts with weights in the order of the computation."""
    parts = getattr(layer, "forward_layers", None)
    if parts is None and layer.weights:
        yield layer
    for part in parts or ():
        yield from _leaves(part)


def _converted(source: _Normalized, target: _Normalized) -> list[tuple[Any, Any]]:
    """Return the variables of `target` and the values that do what `source` does."""
    (conv, norm), (new_conv, new_norm) = source, target
    if norm is not None and new_norm is None:
        return list(zip(new_conv.weights, _fold_batch_norm(conv, norm), strict=True))
    pairs = [(new_conv.kernel, conv.kernel.numpy())]
    if norm is None and new_norm is not None:
        return [*pairs, *zip(new_norm.weights, _identity(conv, new_norm), strict=True)]
    old = [*conv.weights, *(norm.weights if norm else [])]
    new = [*new_conv.weights, *(new_norm.weights if new_norm else [])]
    return [(v, value.numpy()) for v, value in zip(new, old, strict=True)]


def _fold_batch_norm(conv: Any, norm: Any) -> list[np.ndarray]:
    """Return kernel and bias of a convolution that normalises, too."""
    scale = _array(norm.gamma) / np.sqrt(_array(norm.moving_variance) + norm.epsilon)
    bias = _array(norm.beta) - _array(norm.moving_mean) * scale
    # A depthwise kernel [height, width, channels, 1] has its outputs one earlier.
    depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
    return [_array(conv.kernel) * (scale[:, None] if depthwise else scale), bias]


def _identity(conv: Any, norm: Any) -> list[np.ndarray]:
    """Return gamma, beta and statistics that do nothing but add the bias."""
    ones = np.ones(norm.gamma.shape)
    return [np.sqrt(ones + norm.epsilon), _array(conv.bias), 0 * ones, ones]


def _array(variable: keras.Variable) -> np.ndarray:
    """Return the value in float64: folding shall add no rounding but the last."""
    return variable.numpy().astype(np.float64)
