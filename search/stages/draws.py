"""Random search that does not waste its trainings. Imports no framework.

Time is known before a network is trained. So a draw whose time alone costs more than a
little of the objective is thrown back, as in TuNAS' baseline: what is then trained are
random networks that could win. That makes random search stronger, and the comparison
with it an honest one.
"""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any, ClassVar

from common import checks
from common.errors import UserError
from search.networks.layout import Network
from search.networks.space import Exhausted, Space
from search.results import Latency
from search.samplers import Known, RandomSearch, SearchSpace

_DRAWS = 2_000
_HALF = 50.0  # top-1 in % at which times are compared: any would do


@dataclasses.dataclass(frozen=True)
class WithinTime(RandomSearch):
    """Draws every network anew, among those that are about as fast as is wanted.

    Network n follows from the seed, the space and n alone.

    Attributes:
      latency: source of milliseconds; one that is asked thousands of times.
      objective: of top-1 in % and ms.
      slack: of the objective, as a share of top-1, that a draw's time may cost against
        a network at the target. 0.02 is two points.
    """

    latency: Latency | None = None
    objective: Callable[[float, float], float] | None = None
    slack: float = 0.02

    rules: ClassVar = {**RandomSearch.rules, "slack": checks.between(0, 1)}

    def __post_init__(self):
        super().__post_init__()
        for name in ("latency", "objective"):
            if not callable(getattr(self, name)):
                raise UserError(f"draws.WithinTime.{name} has to be set")

    def first(self, space: Space, count: int) -> list[Network]:
        """Return the first networks of a search; a small space may have fewer."""
        found: list[Network] = []
        with contextlib.suppress(Exhausted):
            for number in range(count):
                found.append(self.ask(space, [], number))
        return found

    def _propose(self, space: SearchSpace, known: Known, rng: random.Random) -> Network:
        """Return a network that was not seen and is fast enough, else the nearest."""
        found: list[tuple[float, Network]] = []
        seen = set()
        for _ in range(_DRAWS):
            network = space.sample(rng)
            digest = space.digest_or_none(network)
            if known.seen(digest) or digest in seen:
                continue
            seen.add(digest)
            loss = self._loss(space, network)
            if loss <= self.slack:
                return network
            found.append((loss, network))
        if found and math.isfinite((best := min(found))[0]):
            return best[1]
        return super()._propose(space, known, rng)

    def _loss(self, space: Any, network: Network) -> float:
        """Return what a network's time costs of the objective; inf without a time."""
        assert self.latency is not None
        assert self.objective is not None
        ms = self.latency(space.build(network)).ms
        target = getattr(self.objective, "target_ms", None)
        if ms is None:
            return math.inf
        if target is None:  # a function of the user's own, which has no target
            return 0.0
        return self.objective(_HALF, target) - self.objective(_HALF, ms)
