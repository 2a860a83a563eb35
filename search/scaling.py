"""Latency-aware compound scaling, target by target: rank, look closer, repair.

Section 4 of "Searching for Fast Model Families on Datacenter Accelerators" (CVPR 2021)
scales depth, width and resolution for accuracy and latency together. Here latency is a
hard band around the target, a cheap source ranks all sizes, and what is taken has been
looked at by the exact source. Imports no framework.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.console import say
from common.errors import UserError
from models import catalogue, complexity
from models.variants import Variant
from search import axes
from search.axes import Point
from search.families import comparisons
from search.families.candidates import Candidates, finished, many
from search.families.family import Family, Member, Outcome
from search.results import Estimate, Latency
from search.scaling_search import FREE, Scaling, known_variant

_REPAIRS = 6  # at most, each looked at exactly
_PIXELS = 8  # from one size to the next that a repair tries


def _check_kind(base: Variant, accuracy: Any) -> None:
    """Refuse a surrogate of another kind of network than the base.

    Raises:
      UserError: says which family it predicts.
    """
    theirs = getattr(accuracy, "base", None)
    if isinstance(theirs, Variant) and theirs.stages != base.stages:
        raise UserError(
            f"accuracy_sources.surrogate predicts networks like {theirs.name}, of the "
            f"family {accuracy.family}; the base is {base.name}. Bind "
            "accuracy_sources.surrogate.family, as 'v2', 'lite' or 'efficientnet'"
        )


@dataclasses.dataclass(frozen=True)
class _Target:
    """Milliseconds to reach.

    Attributes:
      name: of the variant whose they are; else the milliseconds as text.
      ms: by the exact source.
      cheap_ms: what the cheap source says of that variant; else `ms`. So what it gets
        wrong of networks like that one does not shift the search.
    """

    name: str
    ms: float
    cheap_ms: float


class ScalingSearch:
    """One search, target by target."""

    def __init__(self, settings: Scaling, sources: Mapping[str, Any]):
        """Prepare it; nothing is asked yet.

        Args:
          settings: of the search.
          sources: `settings.sources`, or others in their places.
        """
        self._settings = settings
        self._base = known_variant(settings.base)
        self._grid = axes.axes_of(self._base, settings.trust)
        self._parts = sources.get("parts")
        self._decides = "exact" in sources
        self._exact = sources["exact" if self._decides else "cheap"]
        self._accuracy = sources["accuracy"]
        _check_kind(self._base, self._accuracy)
        self._candidates = Candidates(
            self._base, settings.se_coefficient, sources["cheap"], self._accuracy
        )
        # Exact times that the cheap source has not taken into its fit yet.
        self._learned: list[tuple[Variant, Estimate]] = []

    def run(self) -> Family:
        """Search all targets, one after the other.

        Raises:
          UserError: a target that is a name has no time, or nothing fits one.
        """
        settings = self._settings
        outcomes = [
            self._outcome(number, self._target(*target))
            for number, target in enumerate(self._targets(), start=1)
        ]
        return Family(
            name=settings.name,
            base=settings.base,
            outcomes=outcomes,
            references=self._references(),
            about={
                "grid": dataclasses.asdict(self._grid) | {"points": len(self._grid)},
                "trust_region": dataclasses.asdict(settings.trust),
                "strategy": settings.strategy,
                "tolerance": settings.tolerance,
                "asked_in_all": self._candidates.asked,
                "invalid": dict(self._candidates.failures),
            },
        )

    def _targets(self) -> list[tuple[str, float, Variant | None]]:
        """Return the targets' names, milliseconds, and variants where they have one."""
        asked = self._settings.targets
        named = [known_variant(name) for name in asked if isinstance(name, str)]
        answers = iter(many(self._exact, named))
        found = []
        for target in asked:
            if not isinstance(target, str):
                found.append((f"{target:g} ms", float(target), None))
                continue
            estimate, variant = next(answers), known_variant(target)
            if not estimate.ms:
                raise UserError(f"the target {target} has no time: {estimate.reason}")
            self._learned.append((variant, estimate))
            found.append((target, estimate.ms, variant))
        return found

    def _target(self, name: str, ms: float, variant: Variant | None) -> _Target:
        """Return a target by what the cheap source says once it has learned."""
        if self._decides:
            self._candidates.learn(self._learned)
        self._learned = []
        if variant is None:
            return _Target(name, ms, ms)
        cheap = self._candidates.cheap(variant)
        if not cheap.ms:
            raise UserError(
                f"{cheap.source} has no time for the target {name}: {cheap.reason}; "
                "give the target in milliseconds"
            )
        return _Target(name, ms, cheap.ms)

    def _outcome(self, number: int, target: _Target) -> Outcome:
        """Search one target."""
        settings, found, base = self._settings, self._candidates, self._base
        say(f"{target.name}, {target.ms:.2f} ms: looking for the best size")
        budget = target.cheap_ms
        border = found.border(self._grid, budget)
        asked = found.walked(self._grid, budget)
        named = [n for n in (*comparisons.COMPARED, settings.strategy) if n != FREE]
        others = comparisons.rivals(dict.fromkeys(named), base, found, budget)
        steps = comparisons.ladder(self._grid, found, budget)
        points = self._shortlist(target, border, others)
        finalists, failures = self._look_closer(points, target, steps)
        if not finalists:
            why = "; ".join(f"{name}: {why}" for name, why in failures.items())
            raise UserError(f"{target.name}: no network has a time or fits: {why}")
        chosen = self._taken(finalists, target, steps)
        if settings.strategy == FREE and self._decides:
            chosen = self._repaired(chosen, target, finalists, failures, steps)
        seed = f"{settings.seed} {target.name}"
        others["random"] = comparisons.random_search(
            self._grid, found, budget, asked, seed
        )
        chosen = finished(chosen, base, f"{settings.name}{number}")
        forms = getattr(self._accuracy, "forms", ())
        return Outcome(
            target=target.name,
            ms=target.ms,
            chosen=chosen,
            reached=_off(chosen, target) <= settings.tolerance,
            finalists=finalists,
            rivals=comparisons.compared(chosen, others, found, steps),
            by_form=comparisons.by_form(forms, border, found),
            edges=self._grid.ends_at(chosen.point),
            asked=asked,
            failures=failures,
        )

    def _shortlist(
        self,
        target: _Target,
        border: Sequence[Point],
        others: Mapping[str, comparisons.Rival],
    ) -> list[Point]:
        """Return the sizes worth a closer look, the best first.

        The strategies' own are among the candidates where they are within the trust
        region: so what is taken is not predicted to be worse than they are.

        Raises:
          UserError: there are none.
        """
        settings = self._settings
        theirs = {n: o.member.point for n, o in others.items() if o.member is not None}
        if settings.strategy != FREE:
            points = [theirs[n] for n in (settings.strategy,) if n in theirs]
        else:
            trusted = [p for p in theirs.values() if settings.trust.holds(p)]
            points = self._candidates.best([*border, *trusted], settings.shortlist)
        if not points:
            why = self._candidates.why_none()
            raise UserError(
                f"no size of {settings.base} within the trust region takes "
                f"{target.ms:.2f} ms ({target.name}) or less and has an accuracy"
                + (f": {why}" if why else "; take a larger target")
                + "; axes.TrustRegion sets the limits of the sizes"
            )
        return points

    def _look_closer(
        self,
        points: Sequence[Point],
        target: _Target,
        steps: Sequence[tuple[float, float]],
    ) -> tuple[list[Member], dict[str, str]]:
        """Return the finalists with their exact times, and what has none."""
        failures: dict[str, str] = {}
        members = [self._candidates.member(point) for point in points]
        if self._parts is not None and len(members) > self._settings.finalists:
            members = self._with(self._parts, "parts_ms", members, failures)
            members.sort(key=lambda m: _worth(m, target, steps), reverse=True)
        count = self._settings.finalists
        if not self._decides:
            return members[:count], failures
        finalists: list[Member] = []
        while members and len(finalists) < count:  # more than so many where some fail
            some = members[: count - len(finalists)]
            members = members[len(some) :]
            finalists += self._with(self._exact, "exact_ms", some, failures)
        return finalists, failures

    def _with(
        self,
        source: Latency,
        field: str,
        members: list[Member],
        failures: dict[str, str],
    ) -> list[Member]:
        """Return those members that a source has a time for, with it."""
        known = []
        answers = many(source, [member.variant for member in members])
        for member, estimate in zip(members, answers, strict=True):
            if not estimate.ms:
                failures[member.variant.name] = f"{estimate.source}: {estimate.reason}"
                continue
            known.append(dataclasses.replace(member, **{field: estimate.ms}))
            if field == "exact_ms":
                self._learned.append((member.variant, estimate))
        return known

    def _taken(
        self,
        finalists: Sequence[Member],
        target: _Target,
        steps: Sequence[tuple[float, float]],
    ) -> Member:
        return max(finalists, key=lambda member: _worth(member, target, steps))

    def _repaired(
        self,
        chosen: Member,
        target: _Target,
        finalists: list[Member],
        failures: dict[str, str],
        steps: Sequence[tuple[float, float]],
    ) -> Member:
        """Return a network near the chosen one whose exact time is the target's.

        Resolution first, then width, each as far as the cheap source says once it is
        scaled to what is known of the nearest network. What was looked at joins the
        finalists.
        """
        tolerance = self._settings.tolerance
        for _ in range(_REPAIRS):
            if _off(chosen, target) <= tolerance:
                break
            tried = {member.variant.name for member in finalists} | set(failures)
            point = self._nearer(chosen, target, tried)
            if point is None:
                break
            near = [self._candidates.member(point)]
            finalists += self._with(self._exact, "exact_ms", near, failures)
            inside = [m for m in finalists if _off(m, target) <= tolerance]
            if inside:
                chosen = self._taken(inside, target, steps)
            else:
                chosen = min(finalists, key=lambda member: _off(member, target))
        return chosen

    def _nearer(self, member: Member, target: _Target, tried: set[str]) -> Point | None:
        """Return the neighbour that should come nearest to the target."""
        found, trust, point = self._candidates, self._settings.trust, member.point
        assert member.exact_ms  # it has been looked at
        factor = member.exact_ms / found.ms(point)
        sizes = [
            point._replace(resolution=point.resolution + step * _PIXELS)
            for step in range(-12, 13)
        ]
        widths = [
            near._replace(width=round(near.width + step * trust.width_step, 6))
            for near in sizes
            for step in (-2, -1, 1, 2)
        ]
        for group in (sizes, widths):
            near = [
                (abs(found.ms(one) * factor / target.ms - 1), one)
                for one in group
                if trust.holds(one) and found.name(one) not in tried
            ]
            if near and min(near)[0] <= self._settings.tolerance:
                return min(near)[1]
        return None

    def _references(self) -> list[dict[str, Any]]:
        """Return other networks as they are, with what is published of them."""
        asked = [known_variant(name) for name in self._settings.references]
        rows = []
        for variant, exact in zip(asked, many(self._exact, asked), strict=True):
            published = catalogue.published(variant)
            best = max(published, key=lambda one: one.top1, default=None)
            # Of a network of another kind the fits of this one say nothing.
            same = variant.stages == self._base.stages
            predicted = self._candidates.score_of(variant) if same else None
            rows.append(
                {
                    "name": variant.name,
                    "resolution": variant.resolution,
                    "ms": exact.ms,
                    "reason": exact.reason,
                    "predicted_top1": predicted and predicted.top1,
                    "predicted_spread": predicted and predicted.spread,
                    "predicted_reason": predicted.reason
                    if predicted
                    else "another kind",
                    "published_top1": best and best.top1,
                    "published_remark": best.remark if best else "",
                    "gmacs": complexity.total(variant).macs / 1e9,
                }
            )
        return rows


def _off(member: Member, target: _Target) -> float:
    """Return how far a network's time is off its target, as a share of it."""
    if member.exact_ms:
        return abs(member.exact_ms / target.ms - 1)
    return abs((member.cheap_ms or math.inf) / target.cheap_ms - 1)


def _worth(
    member: Member, target: _Target, steps: Sequence[tuple[float, float]]
) -> float:
    """Return the top-1 once the time is brought to the target at the going rate."""
    if member.score.top1 is None:
        return -math.inf
    if member.exact_ms:
        share = member.exact_ms / target.ms
    elif member.parts_ms:
        share = member.parts_ms / target.cheap_ms
    else:  # by the source that has chosen it, it just fits
        return member.score.top1
    return member.score.top1 - comparisons.rate(steps) * math.log(share)
