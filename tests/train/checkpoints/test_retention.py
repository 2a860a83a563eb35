import itertools
import random

import pytest

from train.checkpoints.retention import steps_to_keep

HOUR = 3600


def hourly(*hours):
    return {step: hour * HOUR for step, hour in enumerate(hours)}


def test_newest_alone():
    times = {100: 3.0, 5: 1.0, 20: 2.0}  # by step, not by name
    assert steps_to_keep(times, keep=2, keep_every_hours=None) == {20, 100}
    assert steps_to_keep(times, keep=9, keep_every_hours=None) == {5, 20, 100}
    assert steps_to_keep({}, keep=2, keep_every_hours=1) == set()


def test_one_every_so_many_hours():
    times = hourly(0, 0.5, 1.9, 2, 3, 3.9, 4.5, 6, 6.1)
    assert steps_to_keep(times, keep=1, keep_every_hours=2) == {0, 3, 6, 8}


@pytest.mark.parametrize("seed", range(20))
def test_what_stays_once_for_its_age_stays(seed):
    """One by one, as a run writes them; whether the clock goes right or not."""
    source = random.Random(seed)
    there, every = {}, {}
    now = 0.0
    for step in range(200):
        now += source.uniform(0, 1.5) * HOUR
        skew = source.choice([0] * 19 + [-1e4, 1e6]) * HOUR
        every[step] = there[step] = now + skew
        stay = steps_to_keep(there, keep=3, keep_every_hours=4)
        assert set(sorted(there)[-3:]) <= stay
        there = {step: there[step] for step in stay}
    assert set(there) == steps_to_keep(every, keep=3, keep_every_hours=4)


@pytest.mark.parametrize("seed", range(5))
def test_spaced_steps_are_so_many_hours_apart_and_no_further_than_need_be(seed):
    source = random.Random(seed)
    hours = [0.0]
    while len(hours) < 200:
        hours.append(hours[-1] + source.uniform(0, 1.5))
    spaced = sorted(steps_to_keep(hourly(*hours), keep=1, keep_every_hours=4))[:-1]
    gaps = [hours[b] - hours[a] for a, b in itertools.pairwise(spaced)]
    assert spaced[0] == 0
    assert all(4 <= gap < 5.5 for gap in gaps)
    assert len(gaps) > 20
