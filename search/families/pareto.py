"""Which networks no other one beats in accuracy and latency both. Imports no framework.

NSGA-II's two measures (Deb et al., 2002, sections III A and B) for two objectives.
"""

import bisect
import math
from collections.abc import Sequence

Point = tuple[float, float]  # top-1 in %, ms


def fronts(points: Sequence[Point]) -> list[int]:
    """Return of each point how often its kind is beaten: 0 is the Pareto front.

    A point is in front k + 1 if the best that beats it is in front k. One point beats
    another that is no better in top-1 or ms, and worse in one of them; equal points are
    in one front. Takes n log n steps.

    Args:
      points: finite.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    rank = [0] * len(points)
    # By front, minus the highest top-1 so far: who comes later is not faster, so that
    # this alone decides. It never falls from front to front.
    lowest: list[float] = []
    before = None
    for i in order:
        if before is not None and points[i] == points[before]:
            rank[i] = rank[before]
            continue
        front = bisect.bisect_right(lowest, -points[i][0])
        rank[i] = front
        lowest[front : front + 1] = [-points[i][0]]
        before = i
    return rank


def seldom_beaten(points: Sequence[Point], number: int) -> list[int]:
    """Return the indices of the points that fewer than `number` others beat.

    No other is among the best `number`, see `select`, of these points and any more:
    those that beat it are in fronts before its own, whatever comes. And whoever beats a
    point that is returned is returned, too, so that its front stays as it is.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    found, lower = [], list[float]()  # minus the top-1 of those before, sorted
    equal, before = 0, None
    for i in order:
        equal = equal + 1 if before is not None and points[i] == points[before] else 0
        if bisect.bisect_right(lower, -points[i][0]) - equal < number:
            found.append(i)
        bisect.insort(lower, -points[i][0])
        before = i
    return sorted(found)


def crowding(points: Sequence[Point]) -> list[float]:
    """Return of each point of one front how far its neighbours are; inf at the ends.

    The sum over both objectives of the distance between the two neighbours, as a share
    of the front's extent.
    """
    distance = [0.0] * len(points)
    for axis in (0, 1):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        values = [points[i][axis] for i in order]
        for end in order[:1] + order[-1:]:
            distance[end] = math.inf
        extent = values[-1] - values[0] if values else 0.0
        for place in range(1, len(order) - 1) if extent else ():
            gap = values[place + 1] - values[place - 1]
            distance[order[place]] += gap / extent
    return distance


def select(points: Sequence[Point], number: int) -> list[tuple[int, int, float]]:
    """Return the best points, as NSGA-II's survivors: whole fronts, then the loneliest.

    Returns:
      Index, front and crowding distance of `number` points or fewer, best first; of
      equally good ones the earlier.
    """
    by_front: dict[int, list[int]] = {}
    for i, front in enumerate(fronts(points)):
        by_front.setdefault(front, []).append(i)
    found: list[tuple[int, int, float]] = []
    for front in sorted(by_front):
        if len(found) >= number:
            break
        members = by_front[front]
        distances = crowding([points[i] for i in members])
        ranked = zip(members, distances, strict=True)
        found += [(i, front, far) for i, far in sorted(ranked, key=lambda x: -x[1])]
    return found[:number]
