"""Kendall's tau, and how often one comes by chance: by values, and by counting."""

import itertools
import math

import pytest

from search.stages import trust

EIGHT = tuple(range(8))


def shuffled(agreement):
    """Return an order of eight things of which so many pairs more agree than not."""
    for order in itertools.permutations(EIGHT):
        if trust._agreement(EIGHT, order) == agreement:
            return order
    raise AssertionError(agreement)


def test_equal_and_opposite_rankings():
    same = trust.compare(EIGHT, [90 + i / 10 for i in EIGHT])
    assert (same.tau, same.chance) == (1.0, 1 / math.factorial(8))
    opposite = trust.compare(EIGHT, [-i for i in EIGHT])
    assert (opposite.tau, opposite.chance) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("agreement", "per_cent"), [(10, 13.8), (12, 8.9), (14, 5.4), (16, 3.1)]
)
def test_what_eight_networks_say(agreement, per_cent):
    """Of .36, .43, .50 and .57: facts of Kendall's distribution without ties."""
    found = trust.compare(EIGHT, shuffled(agreement))
    assert found.tau == agreement / 28
    assert found.chance is not None
    assert round(100 * found.chance, 1) == per_cent
    assert found.is_trusted == (agreement / 28 >= 0.4)


def test_chance_is_the_share_of_all_orders():
    order = (2, 0, 1, 4, 3)
    found = trust.compare(range(5), order)
    every = [
        trust._agreement(range(5), one) for one in itertools.permutations(range(5))
    ]
    above = sum(one >= trust._agreement(range(5), order) for one in every)
    assert found.chance == above / 120


def test_ties_count_as_ties():
    """Two of four are alike: tau-b divides by the pairs that differ."""
    found = trust.compare([1, 2, 3, 4], [1.0, 2.0, 2.0, 3.0])
    assert found.tau == pytest.approx(5 / math.sqrt(6 * 5), rel=1e-15)
    # Of the 12 different orders of 1, 2, 2, 3 the sorted one alone has 5 pairs.
    assert found.chance == 1 / 12
    assert found.is_exact


def test_many_networks_with_ties_are_drawn():
    first = list(range(11))
    found = trust.compare(first, [*first[:-1], first[-2]])
    assert found.tau == pytest.approx(54 / math.sqrt(55 * 54))
    assert (found.chance, found.is_exact) == (1 / 100_001, False)


@pytest.mark.parametrize("alone", [[5.0] * 8, []])
def test_what_does_not_differ_says_nothing(alone):
    found = trust.compare(range(len(alone)), alone)
    assert (found.tau, found.chance, found.is_trusted) == (None, None, False)
    assert found.verdict().startswith("NOT KNOWN")


def test_the_mahonian_numbers():
    assert trust.inversions(4) == (1, 3, 5, 6, 5, 3, 1)
    assert sum(trust.inversions(9)) == math.factorial(9)


def test_verdicts():
    weak = trust.compare(EIGHT, shuffled(10)).verdict()
    assert "tau 0.36 over 8 random networks" in weak
    assert "by chance in 14 % of the cases" in weak
    assert "NOT TO BE TRUSTED" in weak
    opposite = trust.compare(EIGHT, EIGHT[::-1]).verdict()
    assert "by chance in 100 % of the cases" in opposite
    strong = trust.compare(EIGHT, shuffled(16)).verdict()
    assert "tau 0.57" in strong
    assert "3.1 %" in strong
    assert strong.endswith("in order")
