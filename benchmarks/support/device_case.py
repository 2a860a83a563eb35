"""What `benchmarks.device_latency` times: a network in a library, and its calls."""

import dataclasses
import math
import re
import time
from collections.abc import Callable

import numpy as np

from models.variants import VARIANTS, Variant

OURS = "jax"
TIMMS = ("eager", "compiled")
NUM_CLASSES = 1000
_WARM_UP = 5  # calls, the one that compiles among them


@dataclasses.dataclass(frozen=True)
class Device:
    """What a library computes on: "cpu", "gpu" or "tpu", and its name."""

    platform: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network in one form, called with a number of images.

    Attributes:
      variant: the network; its resolution is that of the images.
      form: OURS, or one of timm's model in torch, TIMMS.
      batch: images a call.
      dtype: of weights and arithmetic.
      repeats: timed calls.
    """

    variant: Variant
    form: str
    batch: int
    dtype: str
    repeats: int

    @property
    def is_ours(self) -> bool:
        """Whether it is our model."""
        return self.form == OURS

    @property
    def library(self) -> str:
        """Whose model it is, for people."""
        if self.is_ours:
            return "ours, jax"
        return f"timm {peer(self.variant.name)}, {self.form}"

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


def peer(variant: str) -> str | None:
    """Return timm's name of the same network, or None if timm has none.

    timm's efficientnet_x_b3 and _b5 are our rows that end in -timm: they differ from
    the paper's.
    """
    plain = re.fullmatch(r"efficientnet-b\d", variant)
    if variant in VARIANTS and (plain or variant.endswith("-timm")):
        return variant.removesuffix("-timm").replace("-", "_")
    return None
