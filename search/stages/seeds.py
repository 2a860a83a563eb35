"""Trainings of several networks with several seeds each. Imports no framework.

What is smaller than the noise of a training is no difference: two networks whose mean
top-1 are less than two standard deviations apart count as equal. The deviation is that
of single trainings around their network's mean, pooled over the networks, as three
seeds alone say little of it.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

DEVIATIONS = 2.0
BETTER, EQUAL, WORSE, UNKNOWN = "better", "equal", "worse", "not known"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a network is to another.

    Attributes:
      difference: of the mean top-1 in points.
      verdict: BETTER, EQUAL, WORSE, or UNKNOWN where no network has a second seed.
    """

    difference: float
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return dataclasses.asdict(self)


def deviation(samples: Mapping[str, Sequence[float]]) -> float | None:
    """Return the pooled standard deviation; None where no network has two samples.

    Args:
      samples: top-1 in % of each training, by network.
    """
    several = [one for one in samples.values() if len(one) > 1]
    freedom = sum(len(one) - 1 for one in several)
    if not freedom:
        return None
    return math.sqrt(
        sum(statistics.variance(one) * (len(one) - 1) for one in several) / freedom
    )


def compare(
    samples: Mapping[str, Sequence[float]], ours: str, theirs: str
) -> Comparison | None:
    """Compare two networks; None where one of them has no training.

    Args:
      samples: as of `deviation`; all of them say how large the noise is.
      ours: name of the first network.
      theirs: of the second.
    """
    first, second = samples.get(ours, ()), samples.get(theirs, ())
    if not first or not second:
        return None
    difference = statistics.fmean(first) - statistics.fmean(second)
    noise = deviation(samples)
    if noise is None:
        return Comparison(difference, UNKNOWN)
    if abs(difference) < DEVIATIONS * noise or not difference:
        return Comparison(difference, EQUAL)
    return Comparison(difference, BETTER if difference > 0 else WORSE)
