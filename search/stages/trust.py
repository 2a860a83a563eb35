"""Does the supernet rank networks as their own trainings do? Imports no framework.

Kendall's tau of both rankings, and how often such a tau comes about where they have
nothing to do with each other: of eight networks a tau of 0.43 or more comes by chance
in 9 % of the cases, so that the number alone says little.
"""

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

LEAST = 0.4  # below it, the supernet's ranking is called not trustworthy
FEWEST = 3  # networks; with two, tau is 1 or -1 and says nothing
_EXACT = 9  # networks with ties whose every order is looked at: 362,880
_DRAWN = 100_000  # orders that are looked at instead
_SEED = 0  # of these


@dataclasses.dataclass(frozen=True)
class Trust:
    """How far a ranking can be trusted.

    Attributes:
      tau: Kendall's tau-b, from -1 to 1; None where one of the rankings has no order.
      chance: probability of this tau or a larger one between two rankings that have
        nothing to do with each other.
      networks: that were ranked.
      is_exact: whether every order was looked at for `chance`.
    """

    tau: float | None
    chance: float | None
    networks: int
    is_exact: bool = True

    @property
    def is_trusted(self) -> bool:
        """Whether tau is 0.4 or more."""
        return self.tau is not None and self.tau >= LEAST

    def verdict(self) -> str:
        """Return what a person is to think of it, in a sentence or two."""
        if self.tau is None or self.chance is None:
            return (
                f"NOT KNOWN whether the supernet's ranking is worth anything: "
                f"{self.networks} networks do not differ, or are too few"
            )
        found = (
            f"Kendall's tau {self.tau:.2f} over {self.networks} random networks; so "
            f"high a tau comes by chance in {_percent(self.chance)} of the cases"
        )
        if self.is_trusted:
            return f"{found}: the supernet's ranking is in order"
        return (
            f"{found}: below {LEAST:g}, the supernet's ranking is NOT TO BE TRUSTED; "
            "go by the random search beside it, or search by --method=evolution"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for a file, with the verdict."""
        return {**dataclasses.asdict(self), "verdict": self.verdict()}


def compare(supernet: Sequence[float], alone: Sequence[float]) -> Trust:
    """Compare two rankings of the same networks.

    Args:
      supernet: their top-1 in the supernet.
      alone: by trainings of their own, in the same order.
    """
    pairs = list(zip(supernet, alone, strict=True))
    count = len(pairs)
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    scale = math.sqrt(_untied(first) * _untied(second))
    if count < FEWEST or not scale:
        return Trust(None, None, count)
    agreeing = _agreement(first, second)
    chance, is_exact = _chance(first, second, agreeing)
    return Trust(agreeing / scale, chance, count, is_exact)


def _agreement(first: Sequence[float], second: Sequence[float]) -> int:
    """Return pairs in the same order minus pairs in the other one."""
    return sum(
        _sign(first[j] - first[i]) * _sign(second[j] - second[i])
        for i, j in itertools.combinations(range(len(first)), 2)
    )


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _untied(values: Sequence[float]) -> int:
    """Return how many pairs differ."""
    return sum(one != other for one, other in itertools.combinations(values, 2))


def _chance(
    first: Sequence[float], second: Sequence[float], agreeing: int
) -> tuple[float, bool]:
    """Return how probable so much agreement is, and whether that is exact."""
    count = len(first)
    if len(set(first)) == len(set(second)) == count:
        most = count * (count - 1) // 2
        counts = inversions(count)
        # Agreement is `most` minus twice the inversions.
        few = sum(counts[: (most - agreeing) // 2 + 1])
        return few / math.factorial(count), True
    # Which order the second has to the first decides alone.
    orders = itertools.permutations(second)
    if count > _EXACT:
        rng = random.Random(_SEED)
        orders = (rng.sample(second, count) for _ in range(_DRAWN))
    total = above = 0
    signs = [
        (i, j, _sign(first[j] - first[i]))
        for i, j in itertools.combinations(range(count), 2)
        if first[i] != first[j]
    ]
    for order in orders:
        total += 1
        found = sum(sign * _sign(order[j] - order[i]) for i, j, sign in signs)
        above += found >= agreeing
    if count > _EXACT:  # the order that was found is one of them: it cannot have none
        return (above + 1) / (total + 1), False
    return above / total, True


@functools.cache
def inversions(count: int) -> tuple[int, ...]:
    """Return how many orders of `count` things have 0, 1, 2 ... pairs the other way.

    These are the Mahonian numbers, which count! sums up.
    """
    found = [1]
    for places in range(2, count + 1):
        longer = [0] * (len(found) + places - 1)
        for shift in range(places):
            for number, orders in enumerate(found):
                longer[number + shift] += orders
        found = longer
    return tuple(found)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
