"""What `benchmarks.device_latency` times: a network in a library, and its calls."""

import dataclasses
import re

from models.variants import VARIANTS
from performance.device_timing import NUM_CLASSES, Device, TimedCase

__all__ = ["NUM_CLASSES", "OURS", "TIMMS", "Case", "Device", "peer"]

OURS = "jax"
TIMMS = ("eager", "compiled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case(TimedCase):
    """A network in one form, called with a number of images.

    Attributes:
      form: OURS, or one of timm's model in torch, TIMMS.
    """

    form: str

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


def peer(variant: str) -> str | None:
    """Return timm's name of the same network, or None if timm has none.

    timm's efficientnet_x_b3 and _b5 are our rows that end in -timm: they differ from
    the paper's.
    """
    plain = re.fullmatch(r"efficientnet-b\d", variant)
    if variant in VARIANTS and (plain or variant.endswith("-timm")):
        return variant.removesuffix("-timm").replace("-", "_")
    return None
