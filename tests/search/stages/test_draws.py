"""Random networks that are about as fast as is wanted."""

import pytest

from common.errors import UserError
from search import spaces
from search.objectives import Absolute, OneSided
from search.results import Estimate, Result
from search.stages.draws import WithinTime
from tests.support import toy_nas


def latency(variant):
    return Estimate(toy_nas.milliseconds(variant), "toy")


def times(networks):
    space = toy_nas.space()
    return [toy_nas.milliseconds(space.build(one)) for one in networks]


def test_draws_are_within_time():
    objective = OneSided(0.2, penalty=0.1)
    draws = WithinTime(latency=latency, objective=objective, slack=0.01)
    found = draws.first(toy_nas.space(), 10)
    assert len(set(found)) == 10
    assert max(times(found)) <= 0.2 * 1.1  # a tenth above costs a point
    absolute = WithinTime(latency=latency, objective=Absolute(0.2), slack=0.01)
    assert min(times(absolute.first(toy_nas.space(), 10))) >= 0.2 * 0.9


def test_network_n_follows_from_n_alone():
    """Whatever the history: so the first ones are known before any is trained."""
    space = toy_nas.space()
    draws = WithinTime(latency=latency, objective=OneSided(0.23))
    first = draws.first(space, 6)
    again = WithinTime(latency=latency, objective=OneSided(0.23))
    history = [
        Result(number=n, network=space.encode(one), digest=space.digest(one), value=1.0)
        for n, one in enumerate(first[:4])
    ]
    assert again.ask(space, history, 5) == first[5]
    assert again.ask(space, history[:2], 4) == first[4]
    other = WithinTime(latency=latency, objective=OneSided(0.23), seed=1)
    assert other.first(space, 6) != first


def test_where_none_is_fast_enough_the_nearest_is_drawn():
    draws = WithinTime(latency=latency, objective=OneSided(0.01), slack=0.0)
    (found,) = draws.first(toy_nas.space(), 1)
    space = toy_nas.space()
    every, network = [], space.first()
    while network is not None:
        every.append(network)
        network = space.following(network)
    assert times([found]) == [min(times(every))]


def test_a_space_that_has_fewer_networks_ends_there():
    """So a supernet of a small space, once it is trained, is not lost."""
    small = spaces.blocks(toy_nas.variant(), {1: {"kernel_size": [3, 5, 7]}})
    draws = WithinTime(latency=latency, objective=OneSided(0.2))
    assert sorted(draws.first(small, 8)) == [(0,), (1,), (2,)]


def test_networks_without_a_time_are_not_drawn():
    def fails(variant):
        if variant.stages[1].fused:
            return Estimate(None, "toy", reason="does not compile")
        return latency(variant)

    draws = WithinTime(latency=fails, objective=OneSided(1.0))
    space = toy_nas.space()
    found = [space.build(one) for one in draws.first(space, 12)]
    assert not any(variant.stages[1].fused for variant in found)


def test_an_objective_of_one_s_own_has_no_target():
    draws = WithinTime(latency=latency, objective=lambda top1, ms: top1 / ms)
    assert len(draws.first(toy_nas.space(), 5)) == 5


def test_what_it_needs():
    with pytest.raises(UserError, match=r"draws\.WithinTime\.latency has to be set"):
        WithinTime(objective=OneSided(1.0))
