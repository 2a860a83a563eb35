"""The settings of a search over a space of blocks, as gin files fill them in."""

import dataclasses
import types
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from common import checks
from common.errors import UserError
from search.results import Accuracy, Latency, is_factory

# What a value has to be able to do, and what may be written for it.
_ROLES: dict[str, tuple[tuple[str, ...], str]] = {
    "space": (
        ("fingerprint", "encode", "decode", "digest", "build"),
        "a space, as @spaces.blocks()",
    ),
    "sampler": (("ask",), "a sampler, as @samplers.AgeingEvolution()"),
    "objective": ((), "an objective, as @objectives.OneSided()"),
    "latency": ((), "a source, as @latency_sources.whole()"),
    "accuracy": ((), "a source, as @accuracy_sources.surrogate()"),
    "parts": ((), "a source, as @latency_sources.sum_of_parts()"),
    "exact": ((), "a source, as @latency_sources.whole()"),
}

_EVALUATIONS = checks.whole(1, 10**7)
RUNGS = checks.Rule(
    lambda rungs: (
        isinstance(rungs, tuple | list)
        and all(map(_EVALUATIONS.holds, rungs))
        and list(rungs) == sorted(rungs, reverse=True)
    ),
    "whole numbers, none larger than the one before it, as (27, 9, 3)",
)
# What may be another in the next life: the networks do not depend on it.
MAY_CHANGE = (
    "evaluations",
    "seconds_per_evaluation",
    "memory_gb",
    "evaluations_per_process",
    "attempts",
    "lease_seconds",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSearch:
    """A search: which networks, how they are judged, and what an evaluation may cost.

    Attributes:
      space: of networks, see `search.spaces`.
      sampler: chooses the next network from the results so far, see `search.samplers`.
      objective: top-1 in % and milliseconds to what is to be large.
      latency: of a network, see `search.latency_sources`.
      accuracy: of a network and a rung, see `search.accuracy_sources`.
      evaluations: how many in all; rungs above the first count, too.
      rungs: successive halving: (27, 9, 3) has rounds of 27 new networks, of which the
        best 9 go on to the next rung of training, and the best 3 of these to the last.
        Without, every evaluation is of a new network.
      lag: network n is chosen from the results of numbers below n - lag: so many may be
        under way at once, on all machines together, and the networks do not depend on
        who is how fast.
      seconds_per_evaluation: after which it counts as failed, "out of time".
      memory_gb: resident memory of an evaluation with all processes that it has
        started, in units of 10^9 bytes; above that it counts as failed.
      evaluations_per_process: after so many an evaluating process makes room for a
        fresh one; one in which an evaluation has failed does so at once.
      attempts: workers that may die with a network before it counts as failed.
      lease_seconds: after which a worker that gives no sign counts as dead; 3 or more.
    """

    space: Any
    sampler: Any
    objective: Any
    latency: Latency
    accuracy: Accuracy
    evaluations: int = 1000
    rungs: tuple[int, ...] = ()
    lag: int = 16
    seconds_per_evaluation: float = 3600.0
    memory_gb: float | None = None
    evaluations_per_process: int = 100
    attempts: int = 3
    lease_seconds: float = 60.0

    rules: ClassVar[Mapping[str, checks.Rule]] = {
        "objective": checks.FUNCTION,
        "latency": checks.FUNCTION,
        "accuracy": checks.FUNCTION,
        "evaluations": _EVALUATIONS,
        "rungs": RUNGS,
        "lag": checks.whole(1, 1000),
        "seconds_per_evaluation": checks.positive(10**7),
        "memory_gb": checks.optional(checks.positive(10**6)),
        "evaluations_per_process": _EVALUATIONS,
        "attempts": checks.whole(1, 1000),
        # The master looks twice a second, and has to see two looks in half of it.
        "lease_seconds": checks.between(3, 10**6),
    }

    def __post_init__(self):
        refuse_strangers("block_search.BlockSearch", vars(self))
        checks.require_fields(self)


def refuse_strangers(
    owner: str, settings: Mapping[str, Any], optional: Collection[str] = ()
) -> None:
    """Refuse what cannot do a setting's work, as a class or function that makes it.

    Args:
      owner: of the settings, as gin writes it.
      settings: by name; those that are objects of a search are looked at.
      optional: names of those that may be None.

    Raises:
      UserError: says what it has to be.
    """
    for name, (attributes, what) in _ROLES.items():
        if name not in settings or (settings[name] is None and name in optional):
            continue
        _refuse_stranger(f"{owner}.{name}", settings[name], attributes, what)


def _refuse_stranger(
    where: str, value: Any, attributes: tuple[str, ...], what: str
) -> None:
    is_function = isinstance(value, types.FunctionType)
    makes = is_factory(value) or (is_function and bool(attributes))
    if makes:
        module = value.__module__.rpartition(".")[2]
        raise UserError(
            f"{where} = @{module}.{value.__name__}: the () behind it is missing; it "
            f"has to be {what}"
        )
    if not all(hasattr(value, attribute) for attribute in attributes):
        raise UserError(f"{where} = {value!r}: it has to be {what}")
