"""The three axes of compound scaling as a grid, and a walk that finds its border.

Repeats are rounded up stage by stage, so that a depth coefficient is a staircase: the
grid has one coefficient for each different network. Imports no framework.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

from common import checks
from common.errors import UserError
from models.variants import Variant
from search.strategies import Growth


class Point(NamedTuple):
    """A size of a base network.

    Attributes:
      depth: factor of the blocks of each stage, which are rounded up.
      width: factor of all channels.
      resolution: height and width of the images in pixels.
    """

    depth: float
    width: float
    resolution: int


Milliseconds = Callable[[Point], float]


@dataclasses.dataclass(frozen=True)
class Axes:
    """A grid of points: all depths with all widths and all resolutions.

    Attributes:
      depths: factors, each of another number of blocks, ascending.
      widths: factors, ascending.
      resolutions: pixels, ascending.
    """

    depths: tuple[float, ...]
    widths: tuple[float, ...]
    resolutions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.depths) * len(self.widths) * len(self.resolutions)

    def ends_at(self, point: Point) -> tuple[str, ...]:
        """Return the axes whose greatest value a point has, or exceeds."""
        ends = self.depths[-1], self.widths[-1], self.resolutions[-1]
        pairs = zip(point._fields, point, ends, strict=True)
        return tuple(name for name, value, end in pairs if value >= end - 1e-9)


_FACTORS = checks.interval(
    lambda low, high: 0.01 <= low <= high <= 64, "from 0.01 to 64, as (1.0, 2.0)"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustRegion:
    """How far a base is scaled: beyond, no published accuracy says what would come.

    Attributes:
      depth: least and greatest factor.
      width: least and greatest factor. No network of inverted residuals whose accuracy
        is published is wider than 2.
      resolution: least and greatest, in pixels.
      most_blocks: of a network.
      width_step: from one width to the next.
      resolution_step: in pixels.
    """

    depth: tuple[float, float] = (1.0, 4.0)
    width: tuple[float, float] = (1.0, 2.0)
    resolution: tuple[int, int] = (160, 600)
    most_blocks: int = 64
    width_step: float = 0.05
    resolution_step: int = 8

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "depth": _FACTORS,
        "width": _FACTORS,
        "resolution": checks.interval(
            lambda low, high: 1 <= low <= high <= 8192, "from 1 to 8,192 pixels"
        ),
        "most_blocks": checks.whole(1, 1000),
        "width_step": checks.between(0.001, 64),
        "resolution_step": checks.whole(1, 8192),
    }

    def __post_init__(self):
        checks.require_fields(self)

    def holds(self, point: Point) -> bool:
        """Return whether a point is within the limits; blocks are not counted."""
        return (
            self.depth[0] - 1e-9 <= point.depth <= self.depth[1] + 1e-9
            and self.resolution[0] <= point.resolution <= self.resolution[1]
            and self.width[0] - 1e-9 <= point.width <= self.width[1] + 1e-9
        )


def depths(
    base: Variant, low: float = 1.0, high: float = 4.0, most_blocks: int = 64
) -> tuple[float, ...]:
    """Return a depth factor for each different network, ascending.

    Repeats are rounded up in each stage, so that the blocks are a staircase of the
    factor. It is taken from the middle of each step; at 1, which is a step's end, the
    base itself stands for it.

    Args:
      base: whose blocks are repeated.
      low: the least factor, which is one of them.
      high: the greatest that may be one.
      most_blocks: of a network.
    """
    scaled = base.stages if base.scale_ends else base.stages[1:-1]
    fixed = sum(s.num_repeat for s in base.stages) - sum(s.num_repeat for s in scaled)
    repeats = [stage.num_repeat * base.depth_coefficient for stage in scaled]
    ends = {
        step / n
        for n in set(repeats)
        for step in range(math.floor(low * n), math.ceil(high * n) + 1)
    }
    inside = [low, *sorted(e for e in ends if low < e < high), high]
    middles = (
        1.0 if end == 1 else round((begin + end) / 2, 4)
        for begin, end in itertools.pairwise(inside)
    )
    kept: dict[tuple[int, ...], float] = {}
    for depth in (low, *middles):
        # Rounded as the product of two decimals may lie a hair above a whole number.
        blocks = tuple(math.ceil(round(n * depth, 9)) for n in repeats)
        if fixed + sum(blocks) <= most_blocks:
            kept.setdefault(blocks, depth)
    return tuple(kept.values())


def axes_of(base: Variant, trust: TrustRegion) -> Axes:
    """Return the grid of a base network within a trust region.

    Raises:
      UserError: nothing is left of an axis.
    """
    found = Axes(
        depths(base, *trust.depth, trust.most_blocks),
        _steps(*trust.width, trust.width_step),
        tuple(int(r) for r in _steps(*trust.resolution, trust.resolution_step)),
    )
    if not found.depths:
        raise UserError(
            f"{base.name} has more than TrustRegion.most_blocks = {trust.most_blocks} "
            f"blocks at every depth from {trust.depth[0]} to {trust.depth[1]}"
        )
    return found


def _steps(low: float, high: float, step: float) -> tuple[float, ...]:
    count = int((high - low) / step + 1e-9)
    return tuple(round(low + i * step, 6) for i in range(count + 1))


def point_of(base: Variant, growth: Growth) -> Point:
    """Return the size of a base after a growth, its resolution in whole pixels."""
    return Point(
        growth.depth, growth.width, max(1, round(base.resolution * growth.resolution))
    )


def border(axes: Axes, ms: Milliseconds, most: float) -> list[Point]:
    """Return, for every depth and width, the largest images that the time allows.

    The best network within a budget is among them if neither time nor accuracy falls
    when an axis grows: then, as the width grows, the largest size that fits only falls,
    and a walk along that border asks for one time for each step of one of two axes, a
    few hundredths of the grid.

    Args:
      axes: of the grid.
      ms: milliseconds of a point; infinity where there is no such network.
      most: milliseconds that a network may take.
    """
    found = []
    for depth in axes.depths:
        at = len(axes.resolutions) - 1
        for width in axes.widths:
            while at >= 0 and ms(Point(depth, width, axes.resolutions[at])) > most:
                at -= 1
            if at < 0:
                break
            found.append(Point(depth, width, axes.resolutions[at]))
    return found
