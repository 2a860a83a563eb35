"""Which networks to train next: those that would tell most about the differences.

What is wanted of a surrogate is which of several equally fast networks is better. Its
forms and resamples disagree about some of these differences. Training one network moves
all predictions that go along with its own, as far as they do; so the networks to train
are those whose results would shrink the disagreement most.

In numbers: the samples are taken for draws of a normal distribution over all networks.
`uncertainty` is the mean variance of a network's difference to the mean of its group,
which is of equal latency. Greedily, the network is taken whose observation leaves least
of it ("A-optimal" in Bayesian experimental design; the covariance is that of the
samples). An observation is top-1 plus an offset that all trainings of one recipe
share, of which nothing is known but that it is about a point, plus a training's own
noise. So the first network alone teaches little: it goes to the offset.
"""

import dataclasses

import numpy as np

OFFSET_POINTS = 1.0  # of a family's scale: the leave-one-family-out error
NOISE_POINTS = 0.15  # between two trainings that differ in their seed, of this order


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A network to train.

    Attributes:
      number: of the network, from 0.
      before: points by which a difference within a group is unsure, root mean square
        over all networks, before this network is trained.
      after: the same behind its training and those of all suggestions before it.
    """

    number: int
    before: float
    after: float


def suggest(
    samples: np.ndarray,
    groups: np.ndarray,
    count: int,
    *,
    offset: float = OFFSET_POINTS,
    noise: float = NOISE_POINTS,
) -> list[Suggestion]:
    """Choose networks to train.

    Args:
      samples: predicted top-1 in %, float[s, n], s >= 2, of `Surrogate.predict`.
      groups: numbers of equal latency, int[n]; a group of one asks for nothing.
      count: how many to choose, at most n.
      offset: standard deviation of what all trainings share, in points.
      noise: of a single training's.

    Returns:
      As many as were asked for, or as there are, the most telling first.
    """
    # Columns are networks, as vectors whose products are covariances.
    free = (samples - samples.mean(axis=0)) / np.sqrt(len(samples) - 1)
    shared = np.full((1, free.shape[1]), offset)
    observed = np.concatenate([free, shared])
    wanted = np.concatenate([_contrasts(free, groups), 0 * shared])
    found: list[Suggestion] = []
    left = np.ones(free.shape[1], bool)
    before = _uncertainty(wanted)
    for _ in range(min(count, free.shape[1])):
        lengths = np.einsum("sn,sn->n", observed, observed)
        along = wanted @ wanted.T @ observed
        gains = np.einsum("sn,sn->n", observed, along) / (lengths + noise**2)
        best = int(np.where(left, gains, -np.inf).argmax())
        left[best] = False
        direction = observed[:, best].copy()
        observed = _without(observed, direction, noise)
        wanted = _without(wanted, direction, noise)
        found.append(Suggestion(best, before, after := _uncertainty(wanted)))
        before = after
    return found


def equal_cost(costs: np.ndarray, width: float = 0.1) -> np.ndarray:
    """Return the groups, int[n], of costs above 0 that differ by about a tenth.

    Args:
      costs: milliseconds, or what stands for them.
      width: of a group, as a share of the cost.
    """
    return np.floor(np.log(costs) / np.log1p(width)).astype(int)


def _contrasts(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return each network's difference to the mean of its group."""
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.array([np.bincount(numbers, vector) for vector in vectors])
    return vectors - (sums / np.bincount(numbers))[:, numbers]


def _uncertainty(wanted: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("sn,sn->n", wanted, wanted).mean()))


def _without(vectors: np.ndarray, direction: np.ndarray, noise: float) -> np.ndarray:
    """Return what is left to learn of vectors once one was observed with noise.

    The square root of I - d d^T / (|d|^2 + noise^2), applied: I - c d d^T.
    """
    length = direction @ direction
    if length == 0:
        return vectors
    c = (1 - np.sqrt(noise**2 / (length + noise**2))) / length
    return vectors - c * np.outer(direction, direction @ vectors)
