"""The settings of a neural architecture search, as gin files fill them in.

One file says what is searched, what is wanted and what it may cost; the trainings are
those of `train/`, by the recipe that it names. Imports no framework.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from common import checks
from common.errors import UserError
from search.block_search import RUNGS, refuse_strangers
from search.results import Latency

_LINES = checks.items(checks.TEXT.holds, "a list of texts in quotes")
_FILES = checks.items(checks.TEXT.holds, "a list of gin files, one or more", least=1)
_EPOCHS = checks.items(
    checks.positive(10**6).holds, "a list of numbers above 0", least=1
)
_OPTIONAL = ("sampler", "parts", "exact")
METHODS = ("supernet", "evolution")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nas:
    """A search: of what, for what, by which trainings, and how far it is checked.

    Attributes:
      space: of networks, see `search.spaces`.
      objective: top-1 in % and milliseconds to what is to be large.
      latency: of a network, see `search.latency_sources`; it is asked for thousands.
      gin_files: of the recipe, by which the found network is trained, random ones,
        and the recipe's own, which is the baseline.
      gin_params: bindings for all trainings, as of the folder of the data.
      method: "supernet", one network that contains them all, or "evolution" on short
        trainings.
      supernet_params: lines of gin for the supernet's training alone, as
        'experiment.Experiment.epochs = 40'.
      short_epochs: of the short trainings of single networks, of random search and
        evolution; one for each rung. They are the first epochs of the recipe's run.
      rungs: as of `BlockSearch`; without, every evaluation is of a new network.
      evaluations: of --method=evolution, and of random search then. Beside a supernet,
        random search has as much training time as that took.
      sampler: of --method=evolution; None is ageing evolution.
      trust_networks: random networks by which the supernet's ranking is compared with
        that of trainings.
      seeds: of the final trainings of each network; what a network is worth is their
        mean, and how sure that is, their deviation.
      slack: see `stages.draws.WithinTime`.
      parts: a second source of latency for the found network; None asks for none.
      exact: a third one, which has the last word.
      seed: of the random networks.
    """

    space: Any
    objective: Any
    latency: Latency
    gin_files: tuple[str, ...]
    gin_params: tuple[str, ...] = ()
    method: str = "supernet"
    supernet_params: tuple[str, ...] = ()
    short_epochs: tuple[float, ...] = (4,)
    rungs: tuple[int, ...] = ()
    evaluations: int = 39
    sampler: Any = None
    trust_networks: int = 8
    seeds: int = 3
    slack: float = 0.02
    parts: Latency | None = None
    exact: Latency | None = None
    seed: int = 0

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "objective": checks.FUNCTION,
        "latency": checks.FUNCTION,
        "gin_files": _FILES,
        "gin_params": _LINES,
        "method": checks.one_of(*METHODS),
        "supernet_params": _LINES,
        "short_epochs": _EPOCHS,
        "rungs": RUNGS,
        "evaluations": checks.whole(1, 10**7),
        "trust_networks": checks.whole(3, 1000),
        "seeds": checks.whole(1, 1000),
        "slack": checks.between(0, 1),
        "parts": checks.optional(checks.FUNCTION),
        "exact": checks.optional(checks.FUNCTION),
        "seed": checks.whole(0, 2**63 - 1),
    }

    def __post_init__(self):
        refuse_strangers("nas_search.Nas", vars(self), _OPTIONAL)
        checks.require_fields(self)
        if self.rungs and len(self.rungs) != len(self.short_epochs):
            raise UserError(
                f"nas_search.Nas.rungs = {self.rungs!r}: it has to have as many as "
                f"short_epochs = {self.short_epochs!r}"
            )
        if self.rungs and self.rungs[0] < self.trust_networks:
            raise UserError(
                f"nas_search.Nas.trust_networks = {self.trust_networks}: the first of "
                f"the rungs has {self.rungs[0]} only"
            )
