"""Problems with a known best, and what samplers make of them."""

import itertools
import math

import numpy as np
import pytest

from benchmarks import search as benchmark
from benchmarks.support import planted
from benchmarks.support.planted import SIZES, Blocks, BlockSpace
from search.samplers import AgeingEvolution, Pareto, RandomSearch

_EVERY = list(itertools.product(*map(range, SIZES)))  # of one stage


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [None, 0.7])
def test_best_is_that_of_all_networks(seed, share):
    """Two stages, 186,624 networks, through `evaluate`'s own parts."""
    problem = Blocks(seed, stages=2, budget_share=share)
    assert problem.count == len(_EVERY) ** 2
    tables = problem.tables
    points = tables.local[0][:, None] + tables.local[1][None, :] + tables.edge[1]
    if share:
        cost = tables.cost[0][:, None] + tables.cost[1][None, :]
        points = points - 40 * np.maximum(0, cost / problem.budget - 1)
    first, second = np.unravel_index(points.argmax(), points.shape)
    network = (*_EVERY[first], *_EVERY[second])
    # Sums of some ten terms below 84: rounding of each.
    error = 10 * 84 * 2.0**-52
    assert problem.evaluate(network) == pytest.approx(problem.best, abs=error)
    if share is None:
        assert network == problem.best_network
        assert problem.best == planted.BEST
    else:
        assert problem.best < planted.BEST


def test_points_are_the_sum_of_terms():
    """One network of three stages at a time, against the tables."""
    problem, rng = Blocks(4, stages=3), np.random.default_rng(0)

    def total(states):
        tables = problem.tables
        return sum(tables.local[i, state] for i, state in enumerate(states)) + sum(
            tables.edge[i][states[i - 1], states[i]] for i in (1, 2)
        )

    best = problem.best_network
    of_best = total([_EVERY.index(best[i : i + 7]) for i in (0, 7, 14)])
    # Sums of some ten terms below 84: rounding of each.
    error = 10 * 84 * 2.0**-52
    for _ in range(200):
        states = rng.integers(len(_EVERY), size=3)
        network = tuple(int(i) for state in states for i in _EVERY[state])
        expected = planted.BEST + total(states) - of_best
        assert problem.points(network) == pytest.approx(expected, abs=error)
        assert problem.points(network) <= planted.BEST + error


def test_what_is_too_dear_loses_points():
    """The best network costs 1 / 0.7 of the budget: 40 points for each 100 % above."""
    problem = Blocks(5, budget_share=0.7)
    best = problem.best_network
    assert problem.budget == pytest.approx(0.7 * problem.cost(best))
    lost = problem.points(best) - problem.evaluate(best)
    assert lost == pytest.approx(40 * (1 / 0.7 - 1))
    cheap = (0,) * 49
    assert problem.cost(cheap) < problem.budget
    assert problem.evaluate(cheap) == problem.points(cheap)


def test_problems_of_a_seed_are_equal():
    """Figures of benchmarks/results are of these."""
    network = BlockSpace().first()
    assert Blocks(0).count == 432**7
    assert Blocks(0).points(network) == Blocks(0).points(network)
    assert Blocks(0).points(network) == pytest.approx(61.07734019996565, abs=1e-9)
    assert Blocks(0, budget_share=0.7).best == pytest.approx(
        81.31975117080948, abs=1e-9
    )


def test_the_space_of_the_problem():
    space = BlockSpace(1)
    network, found = space.first(), []
    while network is not None:
        found.append(network)
        network = space.following(network)
    assert found == _EVERY
    assert [space.decode(space.encode(one)) for one in found] == found


@pytest.mark.long
def test_evolution_comes_near_and_random_does_not():
    for seed in (1, 4):
        problem = Blocks(seed)
        near = benchmark.ours(AgeingEvolution, problem, seed, 3000)
        assert near.gap <= 0.1
        assert near.reached is not None
        far = benchmark.ours(RandomSearch, problem, seed, 3000)
        assert far.gap >= 5
        assert far.reached is None
        assert near.gap >= -1e-9  # nothing is better than the best


def test_pareto_has_more_of_the_front_than_random():
    """Area that is beaten, in points times cost, at an equal budget."""
    areas = {}
    for make in (Pareto, RandomSearch):
        problem, space, history = Blocks(2), BlockSpace(), []
        sampler = make(seed=2)
        for number in range(1500):
            network = sampler.ask(space, history, number)
            history.append(evaluated(space, problem, network, number))
        areas[make] = area([(r.top1[0], r.ms) for r in history])
    assert areas[Pareto] > 1.3 * areas[RandomSearch]


def evaluated(space, problem, network, number):
    from search.results import Result

    points, cost = problem.points(network), float(problem.cost(network))
    text = space.encode(network)
    return Result(
        number=number,
        network=text,
        digest=text,
        value=points,
        top1=(points,),
        ms=cost,
    )


def area(points, worst=60.0, dearest=400.0):
    """Return the area between the front and (60 points, a cost of 400)."""
    total, ceiling = 0.0, worst
    for top1, cost in sorted(points, key=lambda point: point[1]):
        if top1 > ceiling and cost < dearest:
            total += (top1 - ceiling) * (dearest - cost)
            ceiling = top1
    return total


@pytest.mark.parametrize(
    ("near", "gap", "random_gap", "holds"),
    [
        (14, 0.1, 5.0, True),
        (13, 0.1, 5.0, False),
        (14, 0.11, 5.0, False),
        (14, 0.1, 4.9, False),
    ],
)
def test_what_the_benchmark_demands(near, gap, random_gap, holds):
    rows = [
        {"engine": "ageing evolution", "runs": 20, "near": near, "mean_gap": gap},
        {"engine": "random", "runs": 20, "near": 0, "mean_gap": random_gap},
    ]
    assert benchmark.holds(rows) is holds


def test_what_runs_have_in_common():
    traces = [
        benchmark.Trace(0.0, 100, 1.0),
        benchmark.Trace(0.1, 300, 2.0),
        benchmark.Trace(0.5, None, 3.0),
    ]
    assert benchmark.summary(traces) == {
        "runs": 3,
        "near": 2,
        "mean_gap": 0.2,
        "worst_gap": 0.5,
        "median_evaluations_until_near": 300,
        "ms_per_ask": 2.0,
        "gaps": [0.0, 0.1, 0.5],
    }
    assert benchmark.summary(traces[2:])["median_evaluations_until_near"] is None


@pytest.mark.slow
def test_the_demands_of_twenty_problems():
    rows = []
    for name, make in (("ageing evolution", AgeingEvolution), ("random", RandomSearch)):
        traces = [benchmark.ours(make, Blocks(seed), seed, 3000) for seed in range(20)]
        rows.append({"engine": name, **benchmark.summary(traces)})
    assert rows[0]["near"] >= 14
    assert rows[0]["mean_gap"] <= 0.1
    assert rows[1]["mean_gap"] >= 5
    assert benchmark.holds(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [15.0, 45.0, 90.0])
def test_a_scaling_problem_never_falls_along_an_axis(seed, target):
    problem = planted.scaling(seed)
    axes = planted.scaling_grid()
    assert math.prod(map(len, axes)) == 321_489
    grid = np.meshgrid(*(axis[::6] for axis in axes), indexing="ij")
    for of in (problem.quality, problem.latency):
        values = of(*grid)
        assert all((np.diff(values, axis=axis) >= 0).all() for axis in range(3))
    quality, blocks, width, resolution = problem.best(target)
    assert problem.latency(blocks, width, resolution) <= target
    assert problem.quality(blocks, width, resolution) == quality
    # No neighbour on the grid fits and is better.
    for step in itertools.product((-1, 0, 1), repeat=3):
        point = blocks + step[0], width + 0.02 * step[1], resolution + 4 * step[2]
        if 16 <= point[0] <= 64 and 1 <= point[1] <= 2.6 and 192 <= point[2] <= 512:
            fits = problem.latency(*point) <= target
            assert not fits or problem.quality(*point) <= quality
