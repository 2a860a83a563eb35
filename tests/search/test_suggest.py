"""Which networks to train next."""

import numpy as np
import pytest

from search.accuracies.suggest import equal_cost, suggest


def spread(deviations, count=400, seed=0):
    """Samples whose networks vary independently, with exactly these deviations."""
    free = np.random.default_rng(seed).normal(size=(count, len(deviations)))
    free -= free.mean(axis=0)
    orthogonal, _ = np.linalg.qr(free)
    return 80 + orthogonal * np.sqrt(count - 1) * deviations


def test_a_planted_disagreement_is_found():
    deviations = np.full(30, 0.01)
    deviations[17] = 0.5
    first, *_ = suggest(spread(deviations), np.arange(30) // 10, 3)
    assert first.number == 17


def test_a_common_disagreement_teaches_nothing():
    """All of network 0 to 9 rise and fall together: no difference hangs on them."""
    apart = spread([1.0] + [0.1] * 5)
    samples = np.concatenate([apart[:, [0] * 10], apart[:, 1:]], axis=1)
    (first,) = suggest(samples, np.repeat([0, 1], [10, 5]), 1)
    assert first.number >= 10


def test_a_network_alone_in_its_group_asks_for_nothing():
    samples = spread([2.0, 0.1, 0.1])
    found = suggest(samples, np.array([0, 1, 1]), 3)
    assert found[0].number in (1, 2)
    assert found[0].before == pytest.approx(np.sqrt(2 * 0.1**2 / 2 / 3))


def test_what_is_left_is_that_of_a_normal_distribution():
    """Two networks, one of them unsure; the posterior by hand."""
    s, offset, noise = 0.4, 1.0, 0.2
    first, second = suggest(
        spread([0.0, s]), np.array([0, 0]), 2, offset=offset, noise=noise
    )
    assert (first.number, second.number) == (1, 0)
    one = s**2 - s**4 / (s**2 + offset**2 + noise**2)
    observed = np.array(
        [[s**2 + offset**2 + noise**2, offset**2], [offset**2, offset**2 + noise**2]]
    )
    along = np.array([s**2, 0])
    both = s**2 - along @ np.linalg.solve(observed, along)
    left = [first.before, first.after, second.before, second.after]
    # A difference to the mean of two is half of that between them.
    assert np.allclose(
        left, np.sqrt(np.array([s**2, one, one, both], float)) / 2, rtol=1e-9
    )


def test_each_choice_is_the_best_there_is():
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(50, 12)) @ rng.normal(size=(12, 12))
    groups = np.arange(12) % 3
    offset, noise = 1.0, 0.3
    covariance = np.cov(samples.T)
    contrast = np.eye(12) - (groups[:, None] == groups) / 4
    left = []
    for j in range(12):
        along = contrast @ covariance[:, j]
        variance = covariance[j, j] + offset**2 + noise**2
        rest = contrast @ covariance @ contrast.T - np.outer(along, along) / variance
        left.append(np.sqrt(np.trace(rest) / 12))
    (first,) = suggest(samples, groups, 1, offset=offset, noise=noise)
    assert first.number == int(np.argmin(left))
    assert first.after == pytest.approx(min(left), rel=1e-9)


def test_no_network_twice_and_none_invented():
    found = suggest(spread([0.1, 0.2, 0.3]), np.zeros(3, int), 9)
    assert sorted(one.number for one in found) == [0, 1, 2]
    left = [found[0].before, *(one.after for one in found)]
    assert left == sorted(left, reverse=True)


def test_samples_that_agree_leave_nothing_to_learn():
    found = suggest(np.full((5, 4), 80.0), np.zeros(4, int), 2)
    assert [one.after for one in found] == [0, 0]


def test_groups_of_equal_cost():
    groups = equal_cost(np.array([1.01, 1.05, 1.2, 100.0, 101.0]))
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] == groups[4] == 48  # log(100) / log(1.1) = 48.3
