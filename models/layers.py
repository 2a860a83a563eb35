"""The layers that Keras lacks, or has in a form that a TPU pod cannot use."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from models.errors import require
from models.imagenet import MEAN_RGB, STD_RGB

SeedGeneratorMaker = Callable[[int], keras.random.SeedGenerator]

_register = keras.saving.register_keras_serializable(package="efficientnet_x")


@_register
class Normalize(keras.Layer):
    """Pixels 0..255 -> (pixels - mean) / std, per channel.

    Red, green and blue may repeat, as they do behind a space-to-depth.

    Args:
      mean_rgb: of red, green and blue; by default, as the next one, ImageNet's, for
        zero mean and unit variance.
      std_rgb: of red, green and blue.
      **kwargs: keras.Layer's.
    """

    def __init__(
        self,
        mean_rgb: Sequence[float] = MEAN_RGB,
        std_rgb: Sequence[float] = STD_RGB,
        **kwargs: Any,
    ):
        self.mean_rgb, self.std_rgb = tuple(mean_rgb), tuple(std_rgb)
        # Autocasting would round the pixels to bfloat16 before they arrive here.
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        """Normalise in float32 whatever the policy, then cast."""
        pixels = ops.cast(inputs, "float32")
        repeats = inputs.shape[-1] // 3
        mean = ops.convert_to_tensor(self.mean_rgb * repeats, dtype="float32")
        std = ops.convert_to_tensor(self.std_rgb * repeats, dtype="float32")
        return ops.cast((pixels - mean) / std, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the inputs' shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        own = {"mean_rgb": self.mean_rgb, "std_rgb": self.std_rgb}
        return {**super().get_config(), **own}


@_register
class FromHWCN(keras.Layer):
    """[height, width, channels, batch] -> [batch, height, width, channels].

    A TPU keeps the first activations with the batch innermost. Images that arrive so
    need no copy into that layout: there this layer costs nothing.

    Args:
      image_shape: (height, width, channels), to tell the axes apart: Keras' loops,
        which take the first one for the batch, would cut the images into strips.
      **kwargs: keras.Layer's.
    """

    def __init__(self, image_shape: tuple[int, int, int], **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.image_shape = tuple(image_shape)

    def call(self, inputs):
        """Put the batch first."""
        require(
            tuple(inputs.shape[:3]) == self.image_shape,
            f"{self.name}: images must be [{', '.join(map(str, self.image_shape))}, "
            f"batch], not {list(inputs.shape)}; Keras' fit, evaluate and predict need "
            'a model with input_layout = "NHWC"',
        )
        return ops.transpose(inputs, (3, 0, 1, 2))

    def compute_output_shape(self, input_shape):
        """Return the shape with the batch first."""
        return (input_shape[3], *input_shape[:3])

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "image_shape": self.image_shape}


_LANES = 128  # of a matrix unit: what it multiplies at once, in and out


def has_split_gradient(kernel: int, stride: int, channels: int, filters: int) -> bool:
    """Whether `SplitGradientConv2D` splits, as it takes fewer passes of a matrix unit.

    Args:
      kernel: height and width in pixels.
      stride: alike in both directions.
      channels: of the inputs.
      filters: of the outputs.
    """

    def passes(inner: int, outer: int) -> int:
        return math.ceil(inner / _LANES) * math.ceil(outer / _LANES)

    between = kernel * channels
    by_columns = kernel * passes(filters, between)
    by_rows = stride * kernel * passes(between, channels)
    return by_columns + by_rows < kernel**2 * passes(filters, channels)


@_register
class SplitGradientConv2D(keras.layers.Conv2D):
    """A convolution of few channels whose inputs' gradient is made in two steps.

    That gradient is a convolution with as many outputs as the inputs have channels.
    Where these are few, most of a matrix unit idles, k x k times:

        dx[h, w] = sum over i, j of dy[h - i, w - j] K[i, j]       (stride 1)
                 = sum over i of part[h - i, w, i],
        part[h, w, i] = sum over j of dy[h, w - j] K[i, j]

    The parts have k times as many outputs, and take k steps; then they are added, by
    k steps more. The sums are the same, but in another order, and the parts are
    rounded to the layer's dtype. Outputs and the kernel's gradient are Conv2D's.
    """

    def call(self, inputs):
        """Convolve; split the gradient where `has_split_gradient` says so."""
        if not self._splits(inputs.shape):
            return super().call(inputs)
        kernel = ops.convert_to_tensor(self.kernel)
        outputs = ops.conv(
            ops.stop_gradient(inputs),
            kernel,
            strides=self.strides,
            padding="same",
            data_format="channels_last",
        )
        hand_back = ops.custom_gradient(self._hand_back)
        outputs = hand_back(outputs, inputs, ops.stop_gradient(kernel))
        return outputs + self.bias if self.use_bias else outputs

    def _splits(self, shape: tuple[int | None, ...]) -> bool:
        """Whether this layer does, for inputs of a shape."""
        (kernel, width), (stride, other) = self.kernel_size, self.strides
        if self.padding != "same" or kernel != width or stride != other:
            return False
        if any(side is None or side % stride for side in shape[1:3]):
            return False  # the gradient's size would not follow from that of dy
        return has_split_gradient(kernel, stride, shape[-1] or 0, self.filters)

    def _hand_back(self, outputs, inputs, kernel):
        """Return the outputs, and the function to the inputs' gradient from theirs."""
        del inputs

        def gradient(*upstream):
            dy = keras.tree.flatten(upstream)[0]
            return dy, self._input_gradient(dy, kernel), ops.zeros_like(kernel)

        return outputs, gradient

    def _input_gradient(self, dy, kernel):
        """Return the gradient of the inputs from that of the outputs, by two steps."""
        size, _, channels, filters = kernel.shape
        parts = size * channels
        columns = ops.transpose(kernel, (1, 0, 2, 3))
        found = ops.conv_transpose(
            dy,
            ops.reshape(columns, (1, size, parts, filters)),
            strides=(1, self.strides[1]),
            padding="same",
            data_format="channels_last",
        )
        # Row i of the kernel takes part i of each pixel, as it is.
        ones = np.zeros((size, 1, channels, size, channels))
        for i in range(size):
            ones[i, 0, :, i] = np.eye(channels)
        return ops.conv_transpose(
            found,
            ops.cast(ones.reshape(size, 1, channels, parts), dy.dtype),
            strides=(self.strides[0], 1),
            padding="same",
            data_format="channels_last",
        )


class _RandomZero(keras.Layer):
    """Zero random parts of the input in training, and scale up what survives.

    Args:
      keep_prob: probability that a part survives, in (0, 1].
      seed: of the layer's own generator.
      make_seed_generator: from the seed to that generator, for a trainer that needs
        another mask on each replica. It is the trainer's, so not in the config.
      **kwargs: keras.Layer's.
    """

    def __init__(
        self,
        keep_prob: float,
        *,
        seed: int = 0,
        make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.keep_prob = keep_prob
        self.seed = seed
        self.seed_generator = make_seed_generator(seed)

    def mask_shape(self, inputs):
        """Return the shape of the mask, which broadcasts against the inputs."""
        raise NotImplementedError

    def draw(self, inputs):
        """Return numbers in [0, 1) that broadcast against the inputs."""
        # In float32: a bfloat16 draw has steps of 1/128, and would turn a survival
        # probability of 0.9875 into 0.9844.
        return keras.random.uniform(
            self.mask_shape(inputs), dtype="float32", seed=self.seed_generator
        )

    def call(self, inputs, training=None):
        """Apply a mask in training; do nothing in inference, or where frozen."""
        if not (training and self.trainable) or self.keep_prob == 1:
            return inputs
        survives = self.draw(inputs) < self.keep_prob
        return ops.where(survives, inputs / self.keep_prob, 0.0)

    def compute_output_shape(self, input_shape):
        """Return the inputs' shape."""
        return input_shape


@_register
class StochasticDepth(_RandomZero):
    """Drop whole samples of a residual branch (Huang et al., 2016).

    Args:
      survival_prob: probability that a sample survives, in (0, 1].
      parts: samples of the batch that are one image behind SpaceToBatch, and that
        survive or not together.
      **kwargs: see Dropout; seed and make_seed_generator.
    """

    def __init__(self, survival_prob: float, *, parts: int = 1, **kwargs: Any):
        require(
            0 < survival_prob <= 1,
            f"survival_prob must be in (0, 1], not {survival_prob}",
        )
        super().__init__(survival_prob, **kwargs)
        self.parts = parts

    def mask_shape(self, inputs):
        """Return the shape of one draw per image."""
        images = ops.shape(inputs)[0] // self.parts
        return (images,) + (1,) * (len(inputs.shape) - 1)

    def draw(self, inputs):
        """Return one number per sample, the same for the parts of an image."""
        # SpaceToBatch makes the part the slow index of the batch, the image the fast.
        repeats = (self.parts,) + (1,) * (len(inputs.shape) - 1)
        return ops.tile(super().draw(inputs), repeats)

    def get_config(self):
        """Return the constructor's arguments."""
        own = {"survival_prob": self.keep_prob, "parts": self.parts, "seed": self.seed}
        return {**super().get_config(), **own}


@_register
class Dropout(_RandomZero):
    """Drop single elements; Keras' layer takes no generator from outside."""

    def __init__(self, rate: float, **kwargs: Any):
        require(0 <= rate < 1, f"dropout rate must be in [0, 1), not {rate}")
        super().__init__(1 - rate, **kwargs)
        self.rate = rate

    def at_rate(self, rate: float) -> "Dropout":
        """Make a layer of another rate that draws from the same generator."""
        return Dropout(
            rate,
            seed=self.seed,
            make_seed_generator=lambda _: self.seed_generator,
            dtype=self.dtype_policy,
            name=self.name,
        )

    def mask_shape(self, inputs):
        """Return the shape of one draw per element."""
        return ops.shape(inputs)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
