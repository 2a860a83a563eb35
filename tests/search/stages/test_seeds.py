"""The noise of trainings, and what is called equal for it."""

import math

import pytest

from search.stages import seeds


def test_the_deviation_is_pooled():
    """Variances 1 and 4, of two and one degrees of freedom: (2 + 4) / 3."""
    spread = math.sqrt(2.0)  # of two samples, for a variance of 4
    samples = {"a": [1.0, 2.0, 3.0], "b": [0.0, 2 * spread], "c": [7.0]}
    assert seeds.deviation(samples) == pytest.approx(math.sqrt(6 / 3))


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(91.9, seeds.EQUAL), (92.1, seeds.BETTER), (87.9, seeds.WORSE), (90.0, "equal")],
)
def test_two_deviations_decide(ours, verdict):
    samples = {"found": [ours - 1, ours, ours + 1], "other": [89.0, 90.0, 91.0]}
    found = seeds.compare(samples, "found", "other")
    assert found is not None
    assert found.difference == pytest.approx(ours - 90)
    assert found.verdict == verdict


def test_one_seed_each_decides_nothing():
    found = seeds.compare({"found": [99.0], "other": [50.0]}, "found", "other")
    assert found == seeds.Comparison(49.0, seeds.UNKNOWN)


def test_seeds_without_any_noise():
    samples = {"found": [90.0, 90.0], "other": [90.0, 90.0], "third": [89.0, 89.0]}
    found = seeds.compare(samples, "found", "other")
    assert found == seeds.Comparison(0.0, seeds.EQUAL)
    found = seeds.compare(samples, "found", "third")
    assert found == seeds.Comparison(1.0, seeds.BETTER)


def test_nobody_to_compare_with():
    assert seeds.compare({"found": [90.0, 91.0]}, "found", "random") is None
