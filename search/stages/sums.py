"""What the stages count: budgets, ranks' samples, the table of final trainings."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from search.results import Result
from search.stages import seeds
from search.stages.folder import FOUND
from search.stages.run_numbers import Cost

_RANDOM_LEAST = 2  # evaluations of random search, however dear one is


def affordable(budget: Cost, spent: Cost, evaluations: int) -> int:
    """Return how many evaluations a budget pays, by what some have cost.

    Args:
      budget: seconds of training steps that there are.
      spent: that `evaluations` have cost.
      evaluations: that are done; never fewer are returned.
    """
    if not spent.seconds or not budget.seconds:  # so short that nobody took the time
        return evaluations
    each = spent.seconds / evaluations
    return max(evaluations, _RANDOM_LEAST, int(budget.seconds / each))


def falls(statistics: Mapping[str, Any]) -> bool:
    """Whether top-1 is lower by new statistics, as far as anybody knows."""
    before, after = statistics["top1_before"], statistics["top1_after"]
    return before is not None and after is not None and after < before


def first_scores(results: Iterable[Result]) -> dict[str, Result]:
    """Return the results of the first rung that have a top-1, by network."""
    return {
        result.network: result for result in results if result.rung == 0 and result.top1
    }


def finals(rows: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """Return the table of the final trainings, and what it says.

    Args:
      rows: of each training "name", "seed" and "top1" in %.
      count: of the seeds.
    """
    samples: dict[str, list[float]] = {}
    for row in rows:
        samples.setdefault(row["name"], []).append(row["top1"])
    means = {name: statistics.fmean(one) for name, one in samples.items()}
    comparisons = {
        other: seeds.compare(samples, FOUND, other)
        for other in samples
        if other != FOUND
    }
    return {
        "seeds": count,
        "rows": rows,
        "means": means,
        "deviation": seeds.deviation(samples),
        "against": {name: one and one.as_json() for name, one in comparisons.items()},
    }
