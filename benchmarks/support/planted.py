"""Search problems whose best answer is known exactly. Needs numpy alone.

Blocks: a network of seven stages; points are 84 minus losses of single fields, of
fields of one stage together and of neighbouring stages. So the best follows from
dynamic programming over the stages. Scaling: depth, width and resolution on a grid
small enough to be gone through.
"""

import dataclasses
import functools
import itertools
import math
import random
from typing import Any

import numpy as np

from search.networks.layout import Network

BEST = 84.0  # points of the best network, without a cost
# StageSpec's fields, and how many choices each has.
FIELDS = {
    "fused": 2,
    "kernel_size": 2,
    "expand_ratio": 3,
    "se_ratio": 2,
    "activation": 2,
    "num_repeat": 3,
    "output_filters": 3,
}
SIZES = tuple(FIELDS.values())
# What matters to the stage behind: kind, SE and width.
_EDGES = (0, 3, 6)
_STATES = np.array(list(itertools.product(*map(range, SIZES))))  # [432, fields]
_KEYS = _STATES[:, _EDGES] @ np.array([6, 3, 1])  # [432], of what matters, below 12
_NUM_KEYS = 12


@dataclasses.dataclass(frozen=True)
class Tables:
    """Terms of one problem, of every stage; a state is one choice of all fields.

    Attributes:
      local: points of a state [stages, 432].
      edge: points of a state behind another [stages, 432 before, 432]; nothing stands
        before the first stage.
      cost: of a state [stages, 432], whole numbers.
    """

    local: np.ndarray
    edge: np.ndarray
    cost: np.ndarray


def _tables(seed: int, stages: int) -> Tables:
    """Draw a problem."""
    rng = np.random.default_rng([seed, 19])
    local = np.zeros((stages, len(_STATES)))
    edge = np.zeros((stages, len(_STATES), len(_STATES)))
    cost = np.zeros((stages, len(_STATES)), dtype=int)
    for stage in range(stages):
        for i, size in enumerate(SIZES):
            peak, weight = rng.integers(size), rng.gamma(1.5, 0.35)
            local[stage] -= weight * np.abs(_STATES[:, i] - peak)
        # Kind, kernel and expansion of one stage act together.
        table = rng.normal(0, 0.35, (2, 2, 3))
        local[stage] += table[_STATES[:, 0], _STATES[:, 1], _STATES[:, 2]]
        # What is good for kind, SE and width depends on the stage before.
        for i in _EDGES:
            table = rng.normal(0, 0.3, (SIZES[i], SIZES[i]))
            edge[stage] += table[_STATES[:, i][:, None], _STATES[:, i][None, :]]
        cost[stage] = _cost(int(rng.integers(4, 9)))
    return Tables(local, edge, cost)


def _cost(base: int) -> np.ndarray:
    """Return the cost of each state in a stage; it behaves as a latency does."""
    factors = {
        0: (1.0, 1.4),
        1: (1.0, 1.3),
        2: (0.6, 0.75, 1.0),
        5: (0.75, 1.0, 1.25),
        6: (0.7, 1.0, 1.35),
    }
    product = math.prod(np.array(of)[_STATES[:, i]] for i, of in factors.items())
    added = np.array([0.0, 0.1])[_STATES[:, 3]] + np.array([0.0, 0.08])[_STATES[:, 4]]
    return np.rint(base * 4 * (product + added)).astype(int)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """One problem over blocks; equal arguments are equal problems.

    Attributes:
      seed: of all tables.
      stages: 432 choices each; 7 are 2.8e18 networks.
      budget_share: the cost of the best network, times this, is free; None is no cost
        at all.
      penalty: points for each 100 % above.
    """

    seed: int
    stages: int = 7
    budget_share: float | None = None
    penalty: float = 40.0

    @functools.cached_property
    def tables(self) -> Tables:
        """Points and costs."""
        return _tables(self.seed, self.stages)

    @property
    def count(self) -> int:
        """How many networks there are."""
        return len(_STATES) ** self.stages

    @functools.cached_property
    def _unbounded(self) -> tuple[float, tuple[int, ...]]:
        """The highest sum of terms without a cost, and its states."""
        local, edge = self.tables.local, self.tables.edge
        value, back = local[0], []
        for stage in range(1, self.stages):
            total = value[:, None] + edge[stage]
            back.append(total.argmax(0))
            value = total.max(0) + local[stage]
        path = [int(value.argmax())]
        for pointers in reversed(back):
            path.append(int(pointers[path[-1]]))
        return float(value.max()), tuple(reversed(path))

    @property
    def best_network(self) -> Network:
        """The best network without a cost."""
        return tuple(int(i) for state in self._unbounded[1] for i in _STATES[state])

    @functools.cached_property
    def budget(self) -> float:
        """The cost that is free."""
        return (self.budget_share or 1.0) * self.cost(self.best_network)

    @functools.cached_property
    def best(self) -> float:
        """The highest of all points, exactly."""
        if self.budget_share is None:
            return BEST
        by_cost = self._best_by_cost()
        over = np.maximum(0.0, np.arange(len(by_cost)) / self.budget - 1)
        gained = (by_cost - self.penalty * over).max()
        return float(BEST + gained - self._unbounded[0])

    def _best_by_cost(self) -> np.ndarray:
        """Return the highest sum of terms at each total cost.

        Of the states that mean the same to the next stage and cost the same, the best
        one alone can be in the best network.
        """
        local, edge, cost = self.tables.local, self.tables.edge, self.tables.cost
        top = int(cost.max(axis=1).sum()) + 1
        first = [int(np.flatnonzero(key == _KEYS)[0]) for key in range(_NUM_KEYS)]
        value = np.full((_NUM_KEYS, top), -np.inf)
        np.maximum.at(value, (_KEYS, cost[0]), local[0])
        for stage in range(1, self.stages):
            states = np.full((_NUM_KEYS, top), -np.inf)
            np.maximum.at(states, (_KEYS, cost[stage]), local[stage])
            pair = edge[stage][np.ix_(first, first)]
            before = (value[:, None, :] + pair[:, :, None]).max(0)  # [now, cost]
            value = np.full((_NUM_KEYS, top), -np.inf)
            for key, spent in zip(*np.nonzero(np.isfinite(states)), strict=True):
                moved = before[key, : top - spent] + states[key, spent]
                value[key, spent:] = np.maximum(value[key, spent:], moved)
        return value.max(0)

    def cost(self, network: Network) -> int:
        """Return the cost of a network."""
        states = self._states(network)
        return sum(int(self.tables.cost[i, s]) for i, s in enumerate(states))

    def points(self, network: Network) -> float:
        """Return the points of a network, without what its cost takes away."""
        states, tables = self._states(network), self.tables
        total = sum(float(tables.local[i, s]) for i, s in enumerate(states))
        for i, pair in enumerate(itertools.pairwise(states), start=1):
            total += float(tables.edge[i][pair])
        return BEST + total - self._unbounded[0]

    def evaluate(self, network: Network) -> float:
        """Return the points of a network, of which `best` is the highest."""
        points = self.points(network)
        if self.budget_share is None:
            return points
        over = max(0.0, self.cost(network) / self.budget - 1)
        return points - self.penalty * over

    def _states(self, network: Network) -> list[int]:
        """Return the number of each stage's state."""
        states, width = [], len(SIZES)
        for start in range(0, len(network), width):
            state = 0
            for size, index in zip(SIZES, network[start : start + width], strict=True):
                state = state * size + index
            states.append(state)
        return states


@dataclasses.dataclass(frozen=True)
class BlockSpace:
    """The networks of `Blocks` as a space that samplers choose from; all are valid.

    Attributes:
      stages: of the problem.
    """

    stages: int = 7

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many values each place has."""
        return SIZES * self.stages

    def sample(self, rng: random.Random) -> Network:
        """Return a network, drawn at random."""
        return tuple(map(rng.randrange, self.sizes))

    def mutate(self, network: Network, rng: random.Random) -> Network:
        """Return a network with another value at one place."""
        new, place = list(network), rng.randrange(len(network))
        size = self.sizes[place]
        new[place] = (new[place] + rng.randrange(1, size)) % size
        return tuple(new)

    def first(self) -> Network:
        """Return the network of zeros."""
        return (0,) * len(self.sizes)

    def following(self, network: Network) -> Network | None:
        """Return the next network, the last place changing fastest."""
        for place in reversed(range(len(network))):
            if network[place] + 1 < self.sizes[place]:
                rest = (0,) * (len(network) - place - 1)
                return (*network[:place], network[place] + 1, *rest)
        return None

    def encode(self, network: Network) -> str:
        """Return the digits of a network."""
        return "".join(map(str, network))

    def decode(self, text: str) -> Network:
        """Return the network of digits."""
        return tuple(map(int, text))

    def digest_or_none(self, network: Network) -> str | None:
        """Return the encoding: no two of them are one network."""
        return self.encode(network)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A problem of compound scaling: the most quality within a latency.

    Both never fall when an axis grows. Quality is smooth; latency grows in steps, as
    tiles of 16 channels and feature maps of whole pixels do.

    Attributes:
      powers: of depth, width and resolution.
      parts: of the error that each takes away.
    """

    powers: tuple[float, float, float]
    parts: tuple[float, float, float]

    def quality(self, blocks: Any, width: Any, resolution: Any) -> Any:
        """Return points of numbers, or of arrays of numbers."""
        sizes = np.asarray(blocks) / 16, np.asarray(width), np.asarray(resolution) / 224
        lost = (
            c * s**-p for c, s, p in zip(self.parts, sizes, self.powers, strict=True)
        )
        return 90 - sum(lost)

    def latency(self, blocks: Any, width: Any, resolution: Any) -> Any:
        """Return milliseconds of numbers, or of arrays of numbers."""
        tiles = np.ceil(np.asarray(width) * 96 / 16) / 6
        pixels = np.ceil(np.asarray(resolution) / 32) ** 2 / 49
        fine = (np.asarray(resolution) / 224) ** 2
        steps = 0.3 * tiles**2 * pixels + 0.3 * np.asarray(width) * fine
        return np.asarray(blocks) * steps

    def best(self, target: float) -> tuple[float, int, float, int]:
        """Return quality, blocks, width and resolution of the best of the grid."""
        grid = np.meshgrid(*scaling_grid(), indexing="ij")
        fits = self.latency(*grid) <= target
        quality = np.where(fits, self.quality(*grid), -np.inf)
        i = int(quality.argmax())
        blocks, width, resolution = (axis.flat[i] for axis in grid)
        return float(quality.flat[i]), int(blocks), float(width), int(resolution)


def scaling(seed: int) -> Scaling:
    """Draw a problem of compound scaling."""
    rng = np.random.default_rng([seed, 23])
    powers, parts = rng.uniform(0.5, 2.0, 3), rng.uniform(2, 6, 3)
    one, two, three = powers.tolist()
    return Scaling((one, two, three), tuple(parts.tolist()))


def scaling_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return blocks [49], widths [81], resolutions [81]: a grid of 321,489 points."""
    widths = np.round(1.0 + 0.02 * np.arange(81), 2)
    return np.arange(16, 65), widths, np.arange(192, 513, 4)
