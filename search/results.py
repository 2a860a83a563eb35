"""What is known of a network that a search looks at, and how a source says so.

Imports no framework. A source is a callable of one Variant; what it cannot answer is an
answer too, with its reason.
"""

import dataclasses
import statistics
import types
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

from common.checks import TEXT, Rule
from models.variants import Variant


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A network's latency.

    Attributes:
      ms: milliseconds of a batch; None where there are none.
      source: what said so, as "tile model" or "compiled whole".
      error: how far such an answer may be off, as a share of it (one standard
        deviation); None where nobody has measured that.
      reason: why there are none, as "does not fit: 17 GB of 16 GB"; else "".
      is_final: whether the same would be said again: a process that has died may live
        the next time.
    """

    ms: float | None
    source: str
    error: float | None = None
    reason: str = ""
    is_final: bool = True


@dataclasses.dataclass(frozen=True)
class Score:
    """A network's accuracy.

    Attributes:
      samples: top-1 in %, one of each training, or of each fit of a surrogate; none
        where there is no answer.
      source: what said so, as "trained, 4 epochs" or "predicted".
      reason: why there is none, as "diverged in step 120"; else "".
    """

    samples: tuple[float, ...]
    source: str
    reason: str = ""

    @property
    def top1(self) -> float | None:
        """The median of the samples; None where there is none."""
        return statistics.median(self.samples) if self.samples else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The tenth and the ninetieth percentile of the samples."""
        if not self.samples:
            return None
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        tenths = statistics.quantiles(self.samples, n=10, method="inclusive")
        return tenths[0], tenths[-1]


# Modules whose functions make sources, objectives and so on, and are none.
_FACTORIES = (
    "search.accuracy_sources",
    "search.latency_sources",
    "search.objectives",
    "search.samplers",
    "search.spaces",
)


# What a source of one's own goes by.
FUNCTION_NAME = Rule(
    lambda name: TEXT.holds(name) and all(name.partition(":")),
    "of the form 'module:function'",
)


def is_factory(value: Any) -> bool:
    """Return whether a setting is what would make its value: the () is missing."""
    return isinstance(value, type) or (
        isinstance(value, types.FunctionType) and value.__module__ in _FACTORIES
    )


class Latency(Protocol):
    """A source of latencies."""

    def __call__(self, variant: Variant) -> Estimate:
        """Return a network's."""
        ...


# A network and the rung of its training, from 0; sources that train nothing ignore it.
Accuracy = Callable[[Variant, int], Score]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluated network of a search; a line of results.jsonl by these names.

    Attributes:
      number: of the evaluation, from 0, in the search's order.
      network: its encoding, see `search.spaces.Space.encode`.
      digest: of its blocks as they are built: equal networks have equal ones.
      rung: of its training, from 0.
      value: of the search's objective, higher is better; None where it failed.
      top1: see Score.samples.
      ms: see Estimate.ms.
      sources: of accuracy and latency.
      reason: why it failed, else "".
      seconds: that the evaluation took.
      worker: who evaluated it.
      attempt: 1, or more where workers have died.
    """

    number: int
    network: str
    digest: str
    rung: int = 0
    value: float | None = None
    top1: tuple[float, ...] = ()
    ms: float | None = None
    sources: tuple[str, str] = ("", "")
    reason: str = ""
    seconds: float = 0.0
    worker: str = ""
    attempt: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the line's object."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> "Result":
        """Return what a line says.

        Raises:
          TypeError: a key is missing or unknown.
        """
        pairs = {name: tuple(line[name]) for name in ("top1", "sources")}
        return cls(**{**line, **pairs})


class FirstOf(Sequence[Result]):
    """The first results of a list that only grows, without a copy of them.

    Attributes:
      results: the list.
    """

    def __init__(self, results: list[Result], count: int):
        """Take as many as there are, of `count` or fewer."""
        self.results = results
        self._count = min(count, len(results))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Result: ...

    @overload
    def __getitem__(self, place: slice) -> list[Result]: ...

    def __getitem__(self, place: int | slice) -> Result | list[Result]:
        chosen = range(self._count)[place]
        if isinstance(chosen, int):
            return self.results[chosen]
        return [self.results[number] for number in chosen]
