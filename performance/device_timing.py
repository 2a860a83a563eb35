"""A network's calls on a device, timed. Imports no framework."""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np

from models.variants import Variant

NUM_CLASSES = 1000
_WARM_UP = 5  # calls, the one that compiles among them


@dataclasses.dataclass(frozen=True)
class Device:
    """What a library computes on: "cpu", "gpu" or "tpu", and its name."""

    platform: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimedCase:
    """A network, called with a number of images.

    Attributes:
      variant: the network; its resolution is that of the images.
      batch: images a call.
      dtype: of weights and arithmetic.
      repeats: timed calls.
    """

    variant: Variant
    batch: int
    dtype: str
    repeats: int

    def pixels(self) -> np.ndarray:
        """Return images float32[batch, height, width, 3] in 0..255."""
        size = self.variant.resolution
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (self.batch, size, size, 3), np.uint8)
        return pixels.astype(np.float32)

    def seconds(self, call: Callable[[], float]) -> list[float]:
        """Time a call, which returns the sum of the logits.

        Raises:
          FloatingPointError: that is not finite: a computation that went wrong.
        """
        result = call()
        if not math.isfinite(result):
            raise FloatingPointError(f"the sum of the logits is {result}")
        for _ in range(_WARM_UP - 1):
            call()
        seconds = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds
