"""Sizes of one base network, with their times and accuracies, each asked for once."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from models import complexity
from models.errors import ModelError
from models.variants import VARIANTS, Variant
from search import axes
from search.axes import Axes, Point
from search.families.family import Difference, Member
from search.latencies.latency_table import NetworkRow
from search.results import Accuracy, Estimate, Latency, Score

# Whose dropout a network of near size takes: bigger ones need more.
_DROPOUTS = [VARIANTS[f"efficientnet-b{number}"] for number in range(8)]


@runtime_checkable
class Refitted(Latency, Protocol):
    """A source of latency that takes exact answers into its fit."""

    def refit(self, rows: Iterable[NetworkRow]) -> "Refitted":
        """Return the source fitted to these networks, too."""
        ...


def many(source: Latency, variants: Sequence[Variant]) -> list[Estimate]:
    """Return a source's answers, at once where it can give several at once."""
    if hasattr(source, "many"):
        return source.many(variants)  # type: ignore
    return [source(variant) for variant in variants]


class Candidates:
    """The sizes of a base network.

    Attributes:
      asked: how many different points the cheap source was asked for.
      failures: why networks have no time, by their names.
    """

    def __init__(
        self,
        base: Variant,
        se_coefficient: float,
        cheap: Latency,
        accuracy: Accuracy,
    ):
        self._base, self._se = base, se_coefficient
        self._cheap, self._accuracy = cheap, accuracy
        self._rows: dict[Point, Variant] = {}
        self._ms: dict[Point, float] = {}
        self._scores: dict[Point, Score] = {}
        self._borders: dict[tuple[int, float], tuple[list[Point], int]] = {}
        self.asked = 0
        self.failures: dict[str, str] = {}

    def use(self, point: Point, row: Variant) -> None:
        """Let a published row stand at its point, with all that it says."""
        if self._rows.get(point) != row:
            self._rows[point] = row
            self._ms.pop(point, None)
            self._scores.pop(point, None)

    def variant(self, point: Point) -> Variant:
        """Return the base at a size."""
        if point in self._rows:
            return self._rows[point]
        base = self._base
        return dataclasses.replace(
            base,
            name=self.name(point),
            depth_coefficient=base.depth_coefficient * point.depth,
            width_coefficient=base.width_coefficient * point.width,
            resolution=point.resolution,
            se_coefficient=self._se,
        )

    def name(self, point: Point) -> str:
        """Return what the base at a size is called."""
        if point in self._rows:
            return self._rows[point].name
        depth, width, resolution = point
        return f"{self._base.name}-d{depth:g}-w{width:g}-r{resolution}"

    def cheap(self, variant: Variant) -> Estimate:
        """Return the cheap source's answer for any network."""
        return self._cheap(variant)

    def ms(self, point: Point) -> float:
        """Return the cheap source's milliseconds; infinity where there are none."""
        if point not in self._ms:
            self.asked += 1
            try:
                estimate = self._cheap(self.variant(point))
            except ModelError as error:
                estimate = Estimate(None, "build", reason=str(error))
            if estimate.ms is None:
                self.failures[self.name(point)] = estimate.reason
            self._ms[point] = math.inf if estimate.ms is None else estimate.ms
        return self._ms[point]

    def learn(self, known: Iterable[tuple[Variant, Estimate]]) -> None:
        """Let the cheap source take exact answers into its fit, where it has one."""
        rows = [
            NetworkRow.of(variant, ms=exact.ms, source=exact.source)
            for variant, exact in known
        ]
        if rows and isinstance(self._cheap, Refitted):
            self._cheap = self._cheap.refit(rows)
            self._ms.clear()
            self._borders.clear()

    def border(self, grid: Axes, most: float) -> list[Point]:
        """Return `axes.border` of the cheap source."""
        return self._walk(grid, most)[0]

    def walked(self, grid: Axes, most: float) -> int:
        """Return how many points the walk along a border looks at."""
        return self._walk(grid, most)[1]

    def _walk(self, grid: Axes, most: float) -> tuple[list[Point], int]:
        key = id(grid), most
        if key not in self._borders:
            seen = set()

            def ms(point: Point) -> float:
                seen.add(point)
                return self.ms(point)

            self._borders[key] = axes.border(grid, ms, most), len(seen)
        return self._borders[key]

    def best(
        self, points: Iterable[Point], count: int, *, form: str | None = None
    ) -> list[Point]:
        """Return the points of the highest accuracy, the highest first.

        Args:
          points: to choose among.
          count: how many at most; of different networks.
          form: of the surrogate, to go by it alone.
        """
        known = list(dict.fromkeys(points))
        self._score(known)
        tops = [(self._top1(point, form), point) for point in known]
        ranked = sorted(
            (one for one in tops if one[0] is not None),
            key=lambda one: (-one[0], one[1]),  # type: ignore
        )
        return [point for _, point in ranked[:count]]

    def why_none(self) -> str:
        """Return why most sizes have no time, or no accuracy; "" where all have."""
        reasons = [*self.failures.values()]
        reasons += [s.reason for s in self._scores.values() if s.top1 is None]
        found = collections.Counter(filter(None, reasons)).most_common(1)
        return f"{found[0][0]} ({found[0][1]} of the sizes looked at)" if found else ""

    def member(self, point: Point) -> Member:
        """Return the network of a point, with what is known of it."""
        self._score([point])
        return Member(
            variant=self.variant(point),
            point=point,
            score=self._scores[point],
            cheap_ms=self.ms(point) if math.isfinite(self.ms(point)) else None,
        )

    def score_of(self, variant: Variant) -> Score:
        """Return the accuracy of any network."""
        return self._accuracy(variant, 0)

    def difference(self, ours: Member, theirs: Member) -> Difference | None:
        """Return how much better ours is: by each fit, if a surrogate says so."""
        first, second = ours.score, theirs.score
        if first.top1 is None or second.top1 is None:
            return None
        if not hasattr(self._accuracy, "forms_of_samples"):  # trainings, by themselves
            return Difference(top1=first.top1 - second.top1)
        pairs = zip(first.samples, second.samples, strict=True)
        gains = [one - other for one, other in pairs]
        spread = Score(tuple(gains), "").spread
        above = sum(gain > 0 for gain in gains) / len(gains)
        return Difference(top1=statistics.median(gains), spread=spread, above=above)

    def _score(self, points: Sequence[Point]) -> None:
        """Ask for the accuracies that are not known yet, all at once."""
        missing = [point for point in points if point not in self._scores]
        if not missing:
            return
        variants = [self.variant(point) for point in missing]
        source: Any = self._accuracy
        if hasattr(source, "many"):
            scores = source.many(variants)
        else:
            scores = [source(variant, 0) for variant in variants]
        self._scores.update(zip(missing, scores, strict=True))

    def _top1(self, point: Point, form: str | None) -> float | None:
        score = self._scores[point]
        if form is None or not score.samples:
            return score.top1
        forms = self._accuracy.forms_of_samples  # type: ignore
        own = [s for s, f in zip(score.samples, forms, strict=True) if f == form]
        return statistics.median(own)


def finished(member: Member, base: Variant, name: str) -> Member:
    """Return a network under its name, with the dropout that goes with its size.

    Dropout grows with the published networks, from 0.2 to 0.5. It is that of the
    EfficientNet whose MACs have grown from B0's as the network's from the base's.
    """

    def macs(variant: Variant) -> int:
        return complexity.total(variant).macs

    growth = macs(member.variant) / macs(base)

    def distance(row: Variant) -> float:
        return abs(math.log(macs(row) / macs(_DROPOUTS[0]) / growth))

    rate = min(_DROPOUTS, key=distance).dropout_rate
    if member.variant in VARIANTS.values():
        rate = member.variant.dropout_rate
    variant = dataclasses.replace(member.variant, name=name, dropout_rate=rate)
    return dataclasses.replace(member, variant=variant)
