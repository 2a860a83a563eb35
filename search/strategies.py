"""Known ways to scale a network: curves of one parameter through depth, width, size.

A curve is followed until a network takes the milliseconds that were asked for, so that
strategies can be compared at equal latency. Imports no framework.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from models.variants import VARIANTS, Variant

# A curve's parameter is followed no further.
_MOST = 64.0


class Growth(NamedTuple):
    """How much larger than its base a network is.

    Attributes:
      depth: factor of the blocks of each stage, which are rounded up.
      width: factor of all channels.
      resolution: factor of the images' height and width.
    """

    depth: float
    width: float
    resolution: float


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A curve of growth, and where it comes from.

    Attributes:
      curve: from a number of 0 (no growth) or more to a growth that never falls.
      source: the paper, or the table, that says so.
      rows: the variants that the curve goes through, at 0, 1, 2 and so on.
    """

    curve: Callable[[float], Growth]
    source: str
    rows: tuple[Variant, ...] = ()

    def row(self, number: float, base: Variant) -> Variant | None:
        """Return the row of the table that stands at a number, of this very base."""
        at = round(number)
        if abs(number - at) > 1e-9 or not self.rows or base != self.rows[0]:
            return None
        return self.rows[at] if at < len(self.rows) else None


def power(depth: float, width: float, resolution: float) -> Callable[[float], Growth]:
    """Return the curve of compound scaling: a factor to the power of phi for each axis.

    Args:
      depth: alpha of the EfficientNet paper (arXiv 1905.11946, section 3.3).
      width: its beta.
      resolution: its gamma.
    """
    return lambda phi: Growth(depth**phi, width**phi, resolution**phi)


def fast(share: float = 0.8) -> Callable[[float], Growth]:
    """Return the curve of fast compound scaling (arXiv 2103.06877).

    Its parameter is the binary logarithm of the growth of the MACs. That the rest is
    halved between depth and resolution is recalled, not read.

    Args:
      share: of that growth which goes to the width; 1/3 is uniform scaling, 1 is width
        alone.
    """
    rest = (1 - share) / 2
    return power(2**rest, 2 ** (share / 2), 2 ** (rest / 2))


def through(rows: Sequence[Variant]) -> Callable[[float], Growth]:
    """Return the curve through rows of a table, straight between their logarithms.

    Beyond the last row it goes on as between the last two.
    """
    logs = [
        [
            math.log(own / first)
            for own, first in zip(_axes(row), _axes(rows[0]), strict=True)
        ]
        for row in rows
    ]

    def curve(number: float) -> Growth:
        i = min(int(number), len(logs) - 2)
        part = number - i
        pairs = zip(logs[i], logs[i + 1], strict=True)
        return Growth(*(math.exp(a + part * (b - a)) for a, b in pairs))

    return curve


def _axes(row: Variant) -> tuple[float, float, float]:
    return row.depth_coefficient, row.width_coefficient, row.resolution


def _published(names: str, source: str) -> Strategy:
    """Return the strategy of a family of the table, from EfficientNet-X-B0 on."""
    first = VARIANTS["efficientnet-x-b0"]
    rows = (first, *(VARIANTS[names.format(n)] for n in range(1, 8)))
    return Strategy(through(rows), source, rows)


STRATEGIES = {
    "efficientnet": _published(
        "efficientnet-x-b{}", "rows of EfficientNet, as EfficientNet-X has them"
    ),
    "x-tpu": _published("efficientnet-x-tpu-b{}", "the authors' rows for TPUv3"),
    "x-gpu": _published("efficientnet-x-gpu-b{}", "the authors' rows for V100"),
    "fast": Strategy(fast(), "arXiv 2103.06877, alpha 0.8"),
    "depth": Strategy(power(2, 1, 1), "depth alone"),
    "width": Strategy(power(1, 2, 1), "width alone"),
    "resolution": Strategy(power(1, 1, 2), "resolution alone"),
}


def follow(
    strategy: Strategy, ms: Callable[[Growth], float], target: float
) -> float | None:
    """Follow a curve until its network takes as long as a target.

    Args:
      strategy: whose curve it is.
      ms: milliseconds of a growth; infinity where there is no such network.
      target: milliseconds.

    Returns:
      The largest number on the curve whose network takes no longer: a whole one where a
      row of the strategy's takes the target to a thousandth. None where the base alone
      takes longer, or nothing on the curve takes as long.
    """
    for number in range(len(strategy.rows)):
        if abs(ms(strategy.curve(number)) / target - 1) < 1e-3:
            return float(number)
    low, high = 0.0, 1.0
    if ms(strategy.curve(low)) > target:
        return None
    while ms(strategy.curve(high)) <= target:
        low, high = high, 2 * high
        if high > _MOST:
            return None
    for _ in range(30):
        middle = (low + high) / 2
        if ms(strategy.curve(middle)) <= target:
            low = middle
        else:
            high = middle
    return None if math.isinf(ms(strategy.curve(high))) else low
