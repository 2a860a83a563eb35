"""Layers that move pixels between space, depth (channels) and batch, and back.

Each is equal to the function of TensorFlow of the same name, `tf.nn.space_to_depth`
and so on, on [batch, height, width, channels]. They change no number and, whatever the
dtype policy, no dtype.
"""

from typing import Any

import keras
from keras import ops

from models.errors import require

_register = keras.saving.register_keras_serializable(package="efficientnet_x")


class _Rearrange(keras.Layer):
    """What the layers here share: a patch size, and the inputs' dtype.

    Args:
      patch_size: n, height and width of a patch of pixels.
      **kwargs: keras.Layer's.
    """

    def __init__(self, patch_size: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        good = isinstance(patch_size, int) and not isinstance(patch_size, bool)
        require(
            good and patch_size >= 1,
            f"patch_size must be an integer of 1 or more, not {patch_size!r}",
        )
        self.patch_size = patch_size

    def compute_output_spec(self, inputs):
        """Keep the dtype."""
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=inputs.dtype)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "patch_size": self.patch_size}


class _ToPatches(_Rearrange):
    """Cut images into patches of n x n pixels, padding with zeros below and right."""

    def _patches(self, inputs):
        """Return [batch, rows, n, columns, n, channels]."""
        n = self.patch_size
        batch, height, width, channels = ops.shape(inputs)
        below, right = -height % n, -width % n
        if not (_is_zero(below) and _is_zero(right)):
            inputs = ops.pad(inputs, ((0, 0), (0, below), (0, right), (0, 0)))
        rows, columns = (height + below) // n, (width + right) // n
        return ops.reshape(inputs, (batch, rows, n, columns, n, channels))


class _FromPatches(_Rearrange):
    """Put patches of n x n pixels together to images, and crop these.

    Args:
      patch_size: n, height and width of a patch.
      output_size: height and width of what is kept, from the top left, or None for
        everything: the size before padding, to undo the other layer.
      **kwargs: keras.Layer's.
    """

    def __init__(
        self,
        patch_size: int,
        *,
        output_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(patch_size, **kwargs)
        self.output_size = None if output_size is None else tuple(output_size)
        require(
            output_size is None
            or (
                len(output_size) == 2
                and all(type(side) is int and side >= 1 for side in output_size)
            ),
            f"output_size must be two integers of 1 or more, not {output_size!r}",
        )

    def _image(self, patches):
        """Return the image of [batch, rows, n, columns, n, channels]."""
        n = self.patch_size
        batch, rows, _, columns, _, channels = ops.shape(patches)
        image = ops.reshape(patches, (batch, rows * n, columns * n, channels))
        if self.output_size is None:
            return image
        height, width = self._image_size(image.shape[1], image.shape[2])
        return image[:, :height, :width, :]

    def _image_size(self, height: int | None, width: int | None):
        """Return the size after cropping, refusing to crop what is not there."""
        if self.output_size is None:
            return height, width
        for side, kept in zip((height, width), self.output_size, strict=True):
            require(
                side is None or kept <= side,
                f"{self.name}: output_size {self.output_size} is larger than the "
                f"{height}x{width} pixels that there are",
            )
        return self.output_size

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "output_size": self.output_size}


@_register
class SpaceToDepth(_ToPatches):
    """[B, H, W, C] -> [B, H/n, W/n, n*n*C], rounded up: a patch becomes a pixel."""

    def call(self, inputs):
        """Order channels by row in the patch, column in the patch, channel."""
        patches = ops.transpose(self._patches(inputs), (0, 1, 3, 2, 4, 5))
        batch, rows, columns, n, _, channels = ops.shape(patches)
        return ops.reshape(patches, (batch, rows, columns, n * n * channels))

    def compute_output_shape(self, input_shape):
        """Return less space, more channels."""
        batch, height, width, channels = input_shape
        n = self.patch_size
        return (batch, _up(height, n), _up(width, n), n * n * channels)


@_register
class DepthToSpace(_FromPatches):
    """[B, H, W, n*n*C] -> [B, n*H, n*W, C]: a pixel becomes a patch."""

    def call(self, inputs):
        """Undo SpaceToDepth."""
        n = self.patch_size
        batch, rows, columns, depth = ops.shape(inputs)
        channels = self._channels(depth)
        patches = ops.reshape(inputs, (batch, rows, columns, n, n, channels))
        return self._image(ops.transpose(patches, (0, 1, 3, 2, 4, 5)))

    def compute_output_shape(self, input_shape):
        """Return more space, less channels."""
        batch, *sides, depth = input_shape
        size = self._image_size(*(_times(side, self.patch_size) for side in sides))
        return (batch, *size, self._channels(depth))

    def _channels(self, depth: int) -> int:
        parts = self.patch_size**2
        require(
            depth % parts == 0,
            f"{self.name}: {depth} channels are no {parts} parts of equal size",
        )
        return depth // parts


@_register
class SpaceToBatch(_ToPatches):
    """[B, H, W, C] -> [n*n*B, H/n, W/n, C], rounded up.

    Sample (i*n + j)*B + b has the pixels of image b at row i and column j of all
    patches: a picture of the whole image at 1/n of its resolution. A convolution on it
    is the convolution on the image with a dilation of n.
    """

    def call(self, inputs):
        """Make the place in the patch the slowest index of the batch."""
        patches = ops.transpose(self._patches(inputs), (2, 4, 0, 1, 3, 5))
        n, _, batch, rows, columns, channels = ops.shape(patches)
        return ops.reshape(patches, (n * n * batch, rows, columns, channels))

    def compute_output_shape(self, input_shape):
        """Return less space, more samples."""
        batch, height, width, channels = input_shape
        n = self.patch_size
        samples = None if batch is None else n * n * batch
        return (samples, _up(height, n), _up(width, n), channels)


@_register
class BatchToSpace(_FromPatches):
    """[n*n*B, H, W, C] -> [B, n*H, n*W, C]: undo SpaceToBatch."""

    def call(self, inputs):
        """Interleave n*n samples into one image."""
        n = self.patch_size
        samples, rows, columns, channels = ops.shape(inputs)
        batch = self._batch(samples)
        patches = ops.reshape(inputs, (n, n, batch, rows, columns, channels))
        return self._image(ops.transpose(patches, (2, 3, 0, 4, 1, 5)))

    def compute_output_shape(self, input_shape):
        """Return more space, less samples."""
        samples, *sides, channels = input_shape
        batch = None if samples is None else self._batch(samples)
        size = self._image_size(*(_times(side, self.patch_size) for side in sides))
        return (batch, *size, channels)

    def _batch(self, samples):
        parts = self.patch_size**2
        if isinstance(samples, int):
            require(
                samples % parts == 0,
                f"{self.name}: a batch of {samples} is no {parts} parts of equal size",
            )
        return samples // parts


def _times(size: int | None, n: int) -> int | None:
    return None if size is None else size * n


def _up(size: int | None, n: int) -> int | None:
    return None if size is None else -(-size // n)


def _is_zero(size: Any) -> bool:
    """Whether a size is known to be zero; one of a dynamic shape is not known."""
    return isinstance(size, int) and size == 0
