"""Which stages a neural architecture search has, in their order, and which are done."""

import dataclasses
from collections.abc import Mapping

from search.stages.folder import (
    EVOLUTION,
    EXPORT,
    FINAL,
    FOUND,
    RANDOM,
    SUPERNET,
    TRUST,
)

LATENCY = "latency"
TABLE = "table"
ALL = (TABLE, SUPERNET, FOUND, RANDOM, TRUST, FINAL, LATENCY, EXPORT)
SKIPPABLE = (RANDOM, TRUST, FINAL, LATENCY, EXPORT)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done, and what not.

    Attributes:
      method: "supernet" or "evolution".
      seeds: of the final trainings.
      skipped: why a stage is left out, by its name.
      with_table: whether times are sums of blocks, which are compiled first.
    """

    method: str
    seeds: int
    skipped: Mapping[str, str]
    with_table: bool = False

    @property
    def stages(self) -> list[str]:
        """The stages that are done, in their order."""
        own = {SUPERNET: EVOLUTION} if self.method == EVOLUTION else {}
        skipped = {*self.skipped, *[TABLE] * (not self.with_table)}
        return [own.get(name, name) for name in ALL if name not in skipped]
