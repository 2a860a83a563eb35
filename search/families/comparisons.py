"""What a network that was found is compared with, at the same milliseconds."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from models.variants import Variant
from search import axes, strategies
from search.axes import Axes, Point
from search.families.candidates import Candidates
from search.families.family import Member, Rival
from search.strategies import STRATEGIES, Growth

# The strategies that are always shown.
COMPARED = ("efficientnet", "x-tpu", "x-gpu", "fast")
# A curve is followed no farther: to build such networks takes for ever.
_MOST = Growth(depth=64.0, width=64.0, resolution=64.0)
# Budgets, as shares of the target's, that tell what time buys.
_LADDER = tuple(1.04**step for step in range(-16, 9))


def rivals(
    names: Iterable[str], base: Variant, candidates: Candidates, most: float
) -> dict[str, Rival]:
    """Return what strategies make of a budget.

    Args:
      names: keys of `strategies.STRATEGIES`.
      base: the network that they scale.
      candidates: its sizes.
      most: milliseconds, by the cheap source.
    """
    return {name: _rival(name, base, candidates, most) for name in names}


def _rival(name: str, base: Variant, candidates: Candidates, most: float) -> Rival:
    strategy = STRATEGIES[name]

    def ms(growth: Growth) -> float:
        too_large = any(own > most for own, most in zip(growth, _MOST, strict=True))
        return math.inf if too_large else candidates.ms(axes.point_of(base, growth))

    at = strategies.follow(strategy, ms, most)
    if at is None:
        return Rival(name=name, source=strategy.source, member=None)
    point = axes.point_of(base, strategy.curve(at))
    if row := strategy.row(at, base):
        candidates.use(point, row)
    return Rival(name=name, source=strategy.source, member=candidates.member(point))


def random_search(
    grid: Axes, candidates: Candidates, most: float, budget: int, seed: str
) -> Rival:
    """Return the best of random sizes.

    Args:
      grid: to draw from.
      candidates: its sizes.
      most: milliseconds, by the cheap source.
      budget: how many to draw: as many as the walk has asked for.
      seed: of the draws.
    """
    rng = random.Random(seed)
    drawn = [
        Point(
            rng.choice(grid.depths),
            rng.choice(grid.widths),
            rng.choice(grid.resolutions),
        )
        for _ in range(budget)
    ]
    fitting = [p for p in dict.fromkeys(drawn) if candidates.ms(p) <= most]
    best = candidates.best(fitting, 1)
    member = candidates.member(best[0]) if best else None
    return Rival(name="random", source=f"{budget} random sizes", member=member)


def by_form(
    forms: Iterable[str], points: Sequence[Point], candidates: Candidates
) -> dict[str, Member]:
    """Return what each form of a surrogate would choose among points."""
    return {
        form: candidates.member(best[0])
        for form in dict.fromkeys(forms)
        if (best := candidates.best(points, 1, form=form))
    }


def ladder(
    grid: Axes, candidates: Candidates, most: float
) -> list[tuple[float, float]]:
    """Return shares of a budget, ascending, and the best top-1 that each buys."""
    steps = []
    for share in _LADDER:
        best = candidates.best(candidates.border(grid, share * most), 1)
        if best:
            top1 = candidates.member(best[0]).score.top1
            assert top1 is not None  # else it were not the best
            steps.append((share, top1))
    return steps


def rate(steps: Sequence[tuple[float, float]]) -> float:
    """Return points of top-1 for e times the milliseconds, around a budget.

    Args:
      steps: of `ladder`.
    """
    near = [step for step in steps if 0.8 < step[0] < 1.25]
    if len(near) < 2:
        return 0.0
    (less, low), (more, high) = near[0], near[-1]
    return (high - low) / math.log(more / less)


def compared(
    chosen: Member,
    others: Mapping[str, Rival],
    candidates: Candidates,
    steps: Sequence[tuple[float, float]],
) -> list[Rival]:
    """Return rivals with what the chosen network gains over them.

    Args:
      chosen: at the budget.
      others: at the same budget.
      candidates: that they are among.
      steps: of `ladder`.
    """
    found = []
    for rival in others.values():
        if rival.member is not None:
            gain = candidates.difference(chosen, rival.member)
            time = _time_at(steps, rival.member.score.top1)
            rival = dataclasses.replace(rival, gain=gain, time=time)
        found.append(rival)
    return found


def _time_at(steps: Sequence[tuple[float, float]], top1: float | None) -> float | None:
    """Return the share of the budget that buys a top-1."""
    if top1 is None:
        return None
    for (less, low), (more, high) in itertools.pairwise(steps):
        if low <= top1 < high:
            part = (top1 - low) / (high - low)
            return less * (more / less) ** part
    return None
