"""What a model is fed with: size, patches and layout of its images."""

import dataclasses
import math
from typing import Any

import keras

from models.errors import require
from models.layers import FromHWCN


@dataclasses.dataclass(frozen=True)
class InputForm:
    """What a model wants to be fed with.

    Attributes:
      resolution: S, height and width of the image in pixels.
      patch_size: n: patches of n x n pixels lie in the channels.
      layout: "NHWC" for [batch, S / n, S / n, 3 * n * n], "HWCN" with batch last.
    """

    resolution: int
    patch_size: int
    layout: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        n = self.patch_size
        return (self.resolution // n, self.resolution // n, 3 * n * n)

    @property
    def batch_axis(self) -> int:
        """Which axis of the images is the batch."""
        return 3 if self.layout == "HWCN" else 0

    def pixels(self) -> keras.KerasTensor:
        """Make the input of a model."""
        shape: list[int | None] = list(self.image_shape)
        shape.insert(self.batch_axis, None)
        # float32: neither integers nor fractions of a pixel are lost on the way.
        return keras.Input(batch_shape=tuple(shape), dtype="float32", name="pixels")

    def arguments(self) -> dict[str, Any]:
        """Return the fields by name, for who makes the images."""
        return dataclasses.asdict(self)


def input_form(model: keras.Model) -> InputForm:
    """Read off a model in what form it takes its images.

    Raises:
      ModelError: if it takes none.
    """
    require(
        len(model.input_shape) == 4,
        f"{model.name} takes no images but inputs of shape {model.input_shape}",
    )
    hwcn = any(isinstance(layer, FromHWCN) for layer in model.layers)
    side, _, channels = model.input_shape[:3] if hwcn else model.input_shape[1:]
    n = math.isqrt(channels // 3)
    return InputForm(side * n, n, "HWCN" if hwcn else "NHWC")
