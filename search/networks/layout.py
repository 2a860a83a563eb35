"""Choices as numbers: which count, how many networks there are, which one is next.

Imports no framework. A network is a tuple of indices, one of each choice, in the order
of the choices; a choice that does not count has index 0.
"""

import dataclasses
import functools
import math
import random
from collections.abc import Sequence

from common.checks import nearest_names
from common.errors import UserError
from search.networks.choices import Choice

Network = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The choices of a space, each behind those that it depends on."""

    choices: tuple[Choice, ...]

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many values each choice has."""
        return tuple(len(choice.values) for choice in self.choices)

    @functools.cached_property
    def conditions(self) -> tuple[tuple[tuple[int, frozenset[int]], ...], ...]:
        """Of each choice: other places, and the indices there with which it counts."""
        places = {choice.name: place for place, choice in enumerate(self.choices)}

        def condition(name: str, values: Sequence) -> tuple[int, frozenset[int]]:
            known = self.choices[places[name]].values
            return places[name], frozenset(map(known.index, values))

        return tuple(
            tuple(condition(*pair) for pair in choice.conditions)
            for choice in self.choices
        )

    def counts(
        self, place: int, network: Sequence[int], active: Sequence[bool]
    ) -> bool:
        """Return whether a choice counts, by the places before it."""
        return all(
            active[other] and network[other] in indices
            for other, indices in self.conditions[place]
        )

    def active(self, network: Sequence[int]) -> list[bool]:
        """Return of each place of a network, or of its start, whether it counts."""
        if not self._conditional:
            return [True] * len(network)
        active: list[bool] = []
        for place in range(len(network)):
            active.append(self.counts(place, network, active))
        return active

    def free(self, network: Network) -> list[int]:
        """Return the places that may change: they count and have other values."""
        active = self.active(network)
        return [i for i, size in enumerate(self.sizes) if active[i] and size > 1]

    def complete(self, start: Sequence[int], rng: random.Random | None) -> Network:
        """Return a network that begins so, the rest drawn, or the first values."""
        network, active = list(start), self.active(start)
        for place in range(len(network), len(self.sizes)):
            counts = self.counts(place, network, active)
            size = self.sizes[place]
            network.append(rng.randrange(size) if counts and rng is not None else 0)
            active.append(counts)
        return tuple(network)

    def replaced(
        self, network: Network, place: int, shift: int, rng: random.Random | None
    ) -> Network:
        """Return the network with another value at a place.

        Args:
          network: to start from.
          place: that counts.
          shift: how many values further the new one is, around the end.
          rng: draws what did not count before; None takes the first values.
        """
        new = list(network)
        new[place] = (new[place] + shift) % self.sizes[place]
        if not self._conditional:
            return tuple(new)
        before, active = self.active(network), []
        for i, size in enumerate(self.sizes):
            active.append(self.counts(i, new, active))
            if active[i] and not before[i] and rng is not None:
                new[i] = rng.randrange(size)
            elif not active[i]:
                new[i] = 0
        return tuple(new)

    def following(self, network: Network) -> Network | None:
        """Return the next network, the last choice changing fastest, or None."""
        active = self.active(network)
        for place in reversed(range(len(network))):
            index = network[place] + 1
            if active[place] and index < self.sizes[place]:
                return self.complete([*network[:place], index], None)
        return None

    def count(self) -> int:
        """Return how many networks there are, exactly."""
        return math.prod(map(self._count, self._components()))

    @functools.cached_property
    def _conditional(self) -> bool:
        return any(self.conditions)

    def _components(self) -> list[list[int]]:
        """Return the places in groups that no condition connects."""
        group = list(range(len(self.sizes)))
        for place, conditions in enumerate(self.conditions):
            for other, _ in conditions:
                old, new = group[place], group[other]
                group = [new if one == old else one for one in group]
        return [
            [place for place, one in enumerate(group) if one == name]
            for name in dict.fromkeys(group)
        ]

    def _count(self, component: Sequence[int]) -> int:
        """Return the ways to fill the places of a component, trying what decides."""
        deciding = {other for i in component for other, _ in self.conditions[i]}
        network, active = [0] * len(self.sizes), [False] * len(self.sizes)

        def ways(position: int) -> int:
            if position == len(component):
                return 1
            place = component[position]
            active[place] = self.counts(place, network, active)
            size = self.sizes[place] if active[place] else 1
            if place not in deciding:
                return size * ways(position + 1)
            total = 0
            for network[place] in range(size):
                total += ways(position + 1)
            return total

        return ways(0)


def ordered(given: Sequence[Choice]) -> tuple[Choice, ...]:
    """Return choices in the encoding's order, each behind those that it depends on.

    Raises:
      UserError: two have one name or set one field, a condition names what is not
        there, or conditions go round in a circle.
    """
    left = {choice.name: choice for choice in sorted(given, key=lambda c: c.order)}
    _refuse_rivals(sorted(given, key=lambda c: c.order))
    for choice in left.values():
        _check_conditions(choice, left)
    found: list[Choice] = []
    while left:
        ready = (
            c for c in left.values() if not any(n in left for n, _ in c.conditions)
        )
        if (choice := next(ready, None)) is None:
            raise UserError(f"{', '.join(left)}: each counts only when another does")
        found.append(left.pop(choice.name))
    return tuple(found)


def _check_conditions(choice: Choice, known: dict[str, Choice]) -> None:
    """Refuse conditions on what does not exist."""
    for name, values in choice.conditions:
        where = f"{choice.name}, when {name}"
        if name not in known:
            near = nearest_names(str(name), known) or list(known)[:5]
            raise UserError(
                f"{where}: there is no such choice; nearest: {', '.join(near)}"
            )
        for value in values:
            if value not in known[name].values:
                has = ", ".join(map(repr, known[name].values))
                raise UserError(f"{where}: {value!r} is none of its values {has}")


def _refuse_rivals(given: Sequence[Choice]) -> None:
    """Refuse two choices that set one field, as filters and their factor."""
    setting: dict[tuple[int, str], Choice] = {}
    for choice in given:
        key = (choice.stage, choice.target)
        other = setting.get(key)
        if other is None and choice.target == "space_to_depth":
            other = setting.get((0, "space_to_depth"))  # a section sets every stage's
        if other is not None:
            raise UserError(
                f"{other.name} and {choice.name} set the same field; keep one"
            )
        setting[key] = choice
