"""Which network comes next: random, grid, ageing evolution, Pareto.

Imports no framework. A sampler is a function: network n of a search depends on the
seed, n, the space and the results that it is shown, those with numbers below n - lag.
So any worker computes the same network n, and a search that was killed goes on as if it
had not been. What a sampler remembers only saves time.
"""

import abc
import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from common import checks
from search.families import pareto
from search.networks.layout import Network
from search.networks.space import Exhausted
from search.results import FirstOf, Result

_DRAWS = 100  # new ones that were all known, before the space is walked through
_WALK = 20_000  # networks that are looked at one after another
_KEPT = 1_000  # proposals, behind the newest; more than any lag
_RESULTS = checks.whole(1, 10**6)


class SearchSpace(Protocol):
    """What a sampler has to know of a space; `search.networks.space.Space` is one."""

    def sample(self, rng: random.Random) -> Network:
        """Return a valid network, drawn at random."""
        ...

    def mutate(self, network: Network, rng: random.Random) -> Network:
        """Return a valid network that differs in one choice and in what is built."""
        ...

    def first(self) -> Network:
        """Return where a walk through the space begins."""
        ...

    def following(self, network: Network) -> Network | None:
        """Return the next network of the walk, or None behind the last."""
        ...

    def digest_or_none(self, network: Network) -> str | None:
        """Return the digest of what is built, or None of an invalid network."""
        ...

    def decode(self, text: str) -> Network:
        """Return the network of an encoding."""
        ...


@dataclasses.dataclass(frozen=True)
class Known:
    """What a sampler may look at for one network.

    Attributes:
      results: those that it may see, by number.
      seen: whether a digest was asked for, or proposed, before.
    """

    results: Sequence[Result]
    seen: Callable[[str | None], bool]


# How many results a network could see, and the digests between these and itself.
_Terms = tuple[int, tuple[str, ...]]


class _Memory:
    """What follows from the longest history so far, and from every start of it."""

    def __init__(self) -> None:
        self._forget(None)

    def _forget(self, space: SearchSpace | None) -> None:
        self.space = space
        self.history: list[Result] = []
        self.whole = 0  # so many results, from the first on, have numbers 0, 1, 2 ...
        self.first_place: dict[str, int] = {}  # of a digest in the history
        self.proposed: dict[int, tuple[_Terms, Network]] = {}
        self.survivors: dict[int, list[Result]] = {}  # by the number of results
        # Of so many results those that may survive, whatever comes.
        self.rivals: tuple[int, list[Result]] = (0, [])
        self.grows: list[Result] | None = None  # the list that the history begins

    def follow(self, space: SearchSpace, history: Sequence[Result]) -> None:
        """Take in a history; forget all if it contradicts what is known."""
        known = len(self.history)
        grows = history.results if isinstance(history, FirstOf) else None
        if space is not self.space:
            self._forget(space)
        # Of a list that only grows, what was seen is as it was.
        if grows is None or grows is not self.grows:
            if list(history[:known]) != self.history[: len(history)]:
                self._forget(space)
            self.grows = grows if len(self.history) <= len(history) else None
        for place in range(len(self.history), len(history)):
            self.history.append(history[place])
            self.first_place.setdefault(history[place].digest, place)
            self.whole += self.whole == place == history[place].number


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """Chooses the networks of a search.

    Attributes:
      seed: equal seeds choose the same.
    """

    seed: int = 0

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "seed": checks.whole(0, 2**63 - 1),
    }

    def __post_init__(self):
        checks.require_fields(self)

    @abc.abstractmethod
    def ask(
        self, space: SearchSpace, history: Sequence[Result], number: int
    ) -> Network:
        """Return network `number` of a search.

        Args:
          space: to choose from.
          history: the results that count, by number; those from `number` on do not.
          number: from 0.

        Returns:
          A valid network, whose digest is not in the history.

        Raises:
          Exhausted: there is none left, or none was found among 20,000.
        """


@dataclasses.dataclass(frozen=True)
class _Learning(Sampler):
    """A sampler that looks at the history, and at what is still evaluated.

    Where the history has one result of each number from 0 on and ends before `number`,
    what is between was proposed from shorter histories, by the same lag. So it is
    known, too, and not proposed again.
    """

    _memory: _Memory = dataclasses.field(
        default_factory=_Memory, init=False, repr=False, compare=False
    )

    def ask(
        self, space: SearchSpace, history: Sequence[Result], number: int
    ) -> Network:
        """Return network `number`, see `Sampler`."""
        if history and history[-1].number >= number:
            history = [result for result in history if result.number < number]
        self._memory.follow(space, history)
        known = len(history)
        if known > self._memory.whole:  # a number is missing, or is there twice
            return self._proposed(space, number, known, known, [])
        pending: list[str] = []
        for n in range(known, number):
            visible = max(0, n - (number - known))
            found = self._proposed(space, n, visible, known, pending)
            pending.append(space.digest_or_none(found) or "")
        return self._proposed(space, number, known, known, pending)

    def _proposed(
        self,
        space: SearchSpace,
        number: int,
        visible: int,
        known: int,
        pending: Sequence[str],
    ) -> Network:
        """Return one network, from memory if it was proposed on the same terms.

        Args:
          space: to choose from.
          number: of the network.
          visible: how many results it may see.
          known: how many results there are.
          pending: digests of the networks from `known` to `number`.
        """
        memory = self._memory
        between = (result.digest for result in memory.history[visible:known])
        terms = visible, (*between, *pending)
        remembered = memory.proposed.get(number)
        if remembered is not None and remembered[0] == terms:
            return remembered[1]

        def seen(digest: str | None) -> bool:
            place = memory.first_place.get(digest or "", known)
            return digest is None or place < known or digest in pending

        rng = random.Random(f"{self.seed} {number}")
        results = FirstOf(memory.history, visible)
        network = self._propose(space, Known(results, seen), rng)
        memory.proposed[number] = terms, network
        memory.proposed.pop(number - _KEPT, None)
        return network

    @abc.abstractmethod
    def _propose(self, space: SearchSpace, known: Known, rng: random.Random) -> Network:
        """Return a valid network that was not seen."""


@dataclasses.dataclass(frozen=True)
class RandomSearch(_Learning):
    """Draws every network anew."""

    def _propose(self, space: SearchSpace, known: Known, rng: random.Random) -> Network:
        return _drawn(space, known, rng)


class _Walk:
    """The different networks of a space, in its order, as far as it was asked."""

    def __init__(self) -> None:
        self.start(None)

    def start(self, space: SearchSpace | None) -> None:
        """Begin again, in a space."""
        self.space, self.networks = space, list[Network]()
        self.seen: set[str | None] = {None}


@dataclasses.dataclass(frozen=True)
class Grid(Sampler):
    """Goes through the space in its order, each built network once.

    Network n is the n-th, whatever the results: the seed changes nothing.
    """

    _memory: _Walk = dataclasses.field(
        default_factory=_Walk, init=False, repr=False, compare=False
    )

    def ask(
        self, space: SearchSpace, history: Sequence[Result], number: int
    ) -> Network:
        """Return network `number`, see `Sampler`."""
        walk = self._memory
        if walk.space is not space:
            walk.start(space)
        while len(walk.networks) <= number:
            start = (
                space.following(walk.networks[-1]) if walk.networks else space.first()
            )
            network = _walked(space, start, walk.seen.__contains__)
            walk.networks.append(network)
            walk.seen.add(space.digest_or_none(network))
        return walk.networks[number]


@dataclasses.dataclass(frozen=True)
class AgeingEvolution(_Learning):
    """Ageing evolution (Real et al., arXiv 1802.01548), without repeats.

    The best of a random sample of the newest networks is mutated in one choice, again
    until it is new. The oldest leave, good or bad; failed ones are worse than all.

    Attributes:
      population: how many of the newest results are alive.
      sample: how many are drawn from these, with replacement.
    """

    population: int = 100
    sample: int = 25

    rules: ClassVar = {
        **Sampler.rules,
        "population": _RESULTS,
        "sample": _RESULTS,
    }

    def _propose(self, space: SearchSpace, known: Known, rng: random.Random) -> Network:
        if len(known.results) < self.population:
            return _drawn(space, known, rng)
        alive = known.results[-self.population :]
        drawn = [rng.choice(alive) for _ in range(self.sample)]
        parent = max(drawn, key=_worth)
        return _mutated(space, parent, known, rng)


@dataclasses.dataclass(frozen=True)
class Pareto(_Learning):
    """NSGA-II's selection (Deb et al., 2002) over top-1 and ms, with one mutation.

    The better of two survivors, by front and then by crowding, is mutated in one
    choice. Survivors are chosen from all results, once in a population. Failed results
    come behind all others. Nothing is crossed over: with one field a mutation it gained
    nothing on planted problems.

    Attributes:
      population: survivors.
    """

    population: int = 100

    rules: ClassVar = {**Sampler.rules, "population": _RESULTS}

    def _propose(self, space: SearchSpace, known: Known, rng: random.Random) -> Network:
        generation = len(known.results) // self.population * self.population
        if not generation:
            return _drawn(space, known, rng)
        chosen = self._memory.survivors.get(generation)
        if chosen is None:
            rivals = self._rivals(known.results, generation)
            chosen = _survivors(rivals, self.population)
            self._memory.survivors[generation] = chosen
        # They stand best first: the better of two is the one in front.
        place = min(rng.randrange(len(chosen)), rng.randrange(len(chosen)))
        return _mutated(space, chosen[place], known, rng)

    def _rivals(self, results: Sequence[Result], generation: int) -> list[Result]:
        """Return of so many results those that may survive, now or later."""
        count, rivals = self._memory.rivals
        if count > generation:
            return list(results[:generation])
        rivals = _may_survive([*rivals, *results[count:generation]], self.population)
        self._memory.rivals = generation, rivals
        return rivals


def _may_survive(results: Sequence[Result], number: int) -> list[Result]:
    """Return, in order, whoever may be of the best `number` of these and later ones."""
    points = [_point(result) for result in results]
    complete = [i for i, point in enumerate(points) if point is not None]
    failed = [i for i, point in enumerate(points) if point is None]
    rivals = pareto.seldom_beaten([p for p in points if p is not None], number)
    chosen = sorted([*(complete[i] for i in rivals), *failed[:number]])
    return [results[i] for i in chosen]


def _survivors(results: Sequence[Result], number: int) -> list[Result]:
    """Return the best results by top-1 and ms, best first; failed ones last."""
    points = [(result, _point(result)) for result in results]
    complete = [(result, point) for result, point in points if point is not None]
    chosen = pareto.select([point for _, point in complete], number)
    failed = [result for result, point in points if point is None]
    return [*(complete[i][0] for i, _, _ in chosen), *failed][:number]


def _point(result: Result) -> pareto.Point | None:
    """Return top-1 and ms of a result; None where it failed."""
    if result.value is None or result.ms is None or not result.top1:
        return None
    top1, ms = statistics.median(result.top1), result.ms
    return (top1, ms) if math.isfinite(top1) and math.isfinite(ms) else None


def _worth(result: Result) -> float:
    """Return a result's value; a failed one's is below every other."""
    value = result.value
    return -math.inf if value is None or math.isnan(value) else value


def _mutated(
    space: SearchSpace, parent: Result, known: Known, rng: random.Random
) -> Network:
    """Return a network near a parent that was not seen, or any that was not."""
    child = space.decode(parent.network)
    for _ in range(_DRAWS):
        try:
            child = space.mutate(child, rng)
        except Exhausted:  # nothing is next to it
            break
        if not known.seen(space.digest_or_none(child)):
            return child
    return _drawn(space, known, rng)


def _drawn(space: SearchSpace, known: Known, rng: random.Random) -> Network:
    """Return a random network that was not seen; if need be, the next of a walk."""
    for _ in range(_DRAWS):
        network = space.sample(rng)
        if not known.seen(space.digest_or_none(network)):
            return network
    return _walked(space, space.first(), known.seen)


def _walked(
    space: SearchSpace, start: Network | None, seen: Callable[[str | None], bool]
) -> Network:
    """Return the first network from a place on that is valid and was not seen."""
    network = start
    for _ in range(_WALK):
        if network is None:
            raise Exhausted("every network of the space has been evaluated")
        if not seen(space.digest_or_none(network)):
            return network
        network = space.following(network)
    raise Exhausted(
        f"of {_WALK:,} networks one after another, none is valid and was not evaluated"
    )
