"""The authors' evaluation image by numpy: window, resize and all but the decoding.

Written from the formulas of their preprocessing and from what TensorFlow's kernels are
said to compute, without our code and without TensorFlow's ops. At 224 px it equals
their own output bit for bit (tests), so what it gives at other sizes is theirs, too.
"""

from collections.abc import Callable

import numpy as np

F = np.float32
_TABLE = 1024  # steps of a pixel for which TensorFlow holds bicubic's weights


def central_window(height: int, width: int, size: int, padding: int) -> list[int]:
    """Return top, left, height, width of the square, of which `padding` px are cut."""
    side = int(F(size / (size + padding)) * F(min(height, width)))
    return [(height - side + 1) // 2, (width - side + 1) // 2, side, side]


def reference_padding(size: int) -> int:
    return round(size * (1 / 0.875 - 1))


def bicubic(pixels: np.ndarray, size: int) -> np.ndarray:
    """TF1's: uint8[h, w, 3] to float32[size, size, 3]; rows first, then columns."""

    def weights(length: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.arange(size, dtype=F) * F(length / F(size))
        whole = np.floor(places)
        step = np.rint((places - whole) * F(_TABLE)).astype(float) / _TABLE
        index = whole.astype(int) + np.arange(-1, 3)[:, None]
        return np.clip(index, 0, length - 1), _cubic(step)

    return _interpolated(pixels, weights)


def _cubic(step: np.ndarray) -> np.ndarray:
    """Keys' kernel at a = -3/4 for the four pixels around a place, float32[4, n]."""
    a = -0.75

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    back = 1 - step
    return np.stack([far(step + 1), near(step), near(back), far(back + 1)]).astype(F)


def _interpolated(
    pixels: np.ndarray, weights: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    image = pixels.astype(F)
    for axis in (0, 1):
        index, weight = weights(image.shape[axis])
        shape = [-1, 1, 1] if axis == 0 else [1, -1, 1]
        terms = [
            np.take(image, one, axis) * factor.reshape(shape)
            for one, factor in zip(index, weight, strict=True)
        ]
        image = ((terms[0] + terms[1]) + terms[2]) + terms[3]
    return image


def bilinear(pixels: np.ndarray, size: int, *, half_pixels: bool) -> np.ndarray:
    """TF1's without half pixels, TF2's with; float32[size, size, 3]."""
    image = pixels.astype(F)
    for axis in (1, 0):
        length = image.shape[axis]
        scale, places = F(length / F(size)), np.arange(size, dtype=F)
        places = (places + F(0.5)) * scale - F(0.5) if half_pixels else places * scale
        whole = np.floor(places)
        below = np.take(image, np.maximum(whole, 0).astype(int), axis)
        above = np.minimum(whole + 1, length - 1).astype(int)
        share = (places - whole).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = below + (np.take(image, above, axis) - below) * share
    return image
