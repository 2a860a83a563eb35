"""A space's networks as sums of parts: each stage by the choices that it depends on.

Imports no framework. A part of a network is a block with its real sizes and the side of
what enters it, or the head; what a block costs depends on nothing else as long as a
network's latency is the sum of its segments (`performance.segments`).
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from models import scaling
from models.errors import ModelError
from models.variants import Variant
from search.networks import choices
from search.networks.choices import Choice
from search.networks.layout import Layout, Network
from search.networks.space import Space
from search.supernets.linear_costs import Counts

# What of the stage before decides on what enters; it may also have moved the pixels.
_ENTERING = ("output_filters", "space_to_batch")
# What of any stage changes the pixels of all behind it.
_MOVING = ("strides", "space_to_depth")
MOST_COMBINATIONS = 200_000

Parts = collections.Counter[Hashable]


@dataclasses.dataclass(frozen=True)
class Term:
    """A stage of the networks of a space, or the head.

    Attributes:
      stage: its number, from 1; one more than there are is the head.
      places: of the choices that it depends on, in the space's order.
      rows: int[sizes of these], which of `counts` each combination has; one with a
        choice that does not count has that of the choice's first value.
      counts: of the parts.
    """

    stage: int
    places: tuple[int, ...]
    rows: np.ndarray
    counts: list[Counts]


class Terms:
    """All terms of a space.

    Attributes:
      terms: by stage, the head last.
      number_of: the number of each part.
    """

    def __init__(self, space: Space):
        """Go through all combinations of each stage.

        Raises:
          UserError: there are too many, or one cannot be built.
        """
        self._space = space
        self._layout = Layout(space.choices)
        self.number_of: dict[Hashable, int] = {}
        last = len(space.base.stages) + 1
        places = [self._places(stage) for stage in range(1, last + 1)]
        total = sum(math.prod(self._sizes(one)) for one in places)
        if total > MOST_COMBINATIONS:
            raise UserError(
                f"{space.name}: what its stages cost depends on {total:,} combinations "
                f"of choices, more than {MOST_COMBINATIONS:,}: leave out choices, "
                "those of space_to_batch first, which count in three stages each"
            )
        self.terms = [self._term(n, one) for n, one in enumerate(places, start=1)]

    def counts(self, network: Network) -> Counts:
        """Return how often a network has each part, by the terms."""
        found: collections.Counter[int] = collections.Counter()
        for term in self.terms:
            row = term.rows[tuple(network[place] for place in term.places)]
            found.update(term.counts[row])
        return found

    def counts_of(self, variant: Variant) -> Counts:
        """Return the same of what is built, not by the terms."""
        of_parts = sum(_parts(variant).values(), Parts())
        # A part that no term has is a number that no network has.
        return {self.number_of.get(k, -1): count for k, count in of_parts.items()}

    def examples(self) -> Iterator[Network]:
        """Yield networks that have all combinations of all terms, the first one first.

        What is no term's own has its first value.
        """
        first = self._space.first()
        yield first
        for term in self.terms:
            seen: set[int] = set()
            for indices in np.ndindex(*term.rows.shape):
                row = int(term.rows[indices])
                if row not in seen:
                    seen.add(row)
                    network = list(first)
                    for place, index in zip(term.places, indices, strict=True):
                        network[place] = index
                    yield self.settled(network)

    def settled(self, network: Sequence[int]) -> Network:
        """Return the network with index 0 where a choice does not count."""
        active = self._layout.active(network)
        pairs = zip(network, active, strict=True)
        return tuple(index if counts else 0 for index, counts in pairs)

    def _sizes(self, places: Sequence[int]) -> list[int]:
        return [len(self._space.choices[place].values) for place in places]

    def _places(self, stage: int) -> tuple[int, ...]:
        """Return the choices on which a stage's cost depends, with their conditions."""
        found = {
            place
            for place, choice in enumerate(self._space.choices)
            if self._matters(choice, stage) and _varies(choice)
        }
        waiting = list(found)
        while waiting:
            for other, _ in self._layout.conditions[waiting.pop()]:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return tuple(sorted(found))

    def _matters(self, choice: Choice, stage: int) -> bool:
        """Whether a stage's cost depends on a choice, conditions apart."""
        if choice.stage in (0, stage) or choice.target in _MOVING:
            return True
        if choice.stage == stage - 1:
            return choice.target in _ENTERING
        # Pixels stay in the batch where the next stage has them there, too.
        return choice.stage == stage + 1 and choice.target == "space_to_batch"

    def _term(self, stage: int, places: tuple[int, ...]) -> Term:
        sizes = self._sizes(places)
        rows = np.zeros(sizes, np.int64)
        known: dict[tuple[int, ...], int] = {}
        by_counts: dict[Any, int] = {}
        counts: list[Counts] = []
        base = _shortened(self._space.base, stage)
        for indices in itertools.product(*map(range, sizes)):
            settled = self._only(places, indices)
            if settled not in known:
                found = self._count(base, stage, places, settled)
                key = tuple(sorted(found.items()))
                if key not in by_counts:
                    by_counts[key] = len(counts)
                    counts.append(found)
                known[settled] = by_counts[key]
            rows[indices] = known[settled]
        return Term(stage, places, rows, counts)

    def _only(self, places: Sequence[int], indices: Sequence[int]) -> tuple[int, ...]:
        """Return the indices with 0 where a choice does not count."""
        network = [0] * len(self._space.choices)
        for place, index in zip(places, indices, strict=True):
            network[place] = index
        settled = self.settled(network)
        return tuple(settled[place] for place in places)

    def _count(
        self,
        base: Variant,
        stage: int,
        places: Sequence[int],
        indices: Sequence[int],
    ) -> Counts:
        """Return how often a stage has each part under a combination of choices."""
        network = [0] * len(self._space.choices)
        for place, index in zip(places, indices, strict=True):
            network[place] = index
        active = self._layout.active(network)
        chosen = [
            (choice, choice.values[index] if active[place] else choice.otherwise)
            for place, (choice, index) in enumerate(
                zip(self._space.choices, network, strict=True)
            )
            if place in places or not _varies(choice)
        ]
        given = [(choice, value) for choice, value in chosen if value is not None]
        try:
            found = _parts(choices.apply(base, given))[stage]
        except ModelError as error:
            said = ", ".join(f"{one.name} = {value!r}" for one, value in given)
            raise UserError(
                f"{self._space.name}: not all of its networks can be built, and the "
                f"controller cannot avoid them: stage {stage} with {said}: {error}. "
                "Leave such values out, or bind them by `when`"
            ) from error
        return {
            self.number_of.setdefault(part, len(self.number_of)): count
            for part, count in found.items()
        }


def _varies(choice: Choice) -> bool:
    """Whether networks differ in it: one of a single value may not count in some."""
    return len(choice.values) > 1 or bool(choice.conditions)


def _shortened(base: Variant, stage: int) -> Variant:
    """Return the base with one block in all other stages: quicker to unroll."""
    if base.block_changes:  # which count blocks
        return base
    stages = tuple(
        one if number == stage else dataclasses.replace(one, num_repeat=1)
        for number, one in enumerate(base.stages, start=1)
    )
    return dataclasses.replace(base, stages=stages)


def _parts(variant: Variant) -> dict[int, Parts]:
    """Return the parts of each stage by its number; the head is one more."""
    specs = scaling.block_specs(variant)
    sizes = scaling.sizes_behind(variant.resolution, specs)
    moves = scaling.batch_domain_moves(specs)
    found = {number: Parts() for number in range(1, len(variant.stages) + 2)}
    stages = scaling.stage_of_block(variant)
    for stage, spec, size, moved in zip(stages, specs, sizes, moves, strict=False):
        found[stage][spec, size, moved] += 1
    head = (scaling.head_filters(variant), specs[-1].output_filters, sizes[-1])
    found[len(variant.stages) + 1][head] += 1
    # What all networks have in common: the stem, by its sizes.
    stem = ("stem", scaling.stem_filters(variant), variant.resolution)
    found[len(variant.stages) + 1][stem] += 1
    return found
