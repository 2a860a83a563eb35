import collections
import dataclasses
import math
import random
import time
from typing import Any

import pytest

from benchmarks.support.planted import Blocks, BlockSpace
from common.errors import UserError
from models.variants import StageSpec, Variant
from search import spaces
from search.families import pareto
from search.networks.space import Exhausted
from search.results import FirstOf, Result
from search.samplers import AgeingEvolution, Grid, Pareto, RandomSearch

SPACE, PROBLEM = BlockSpace(), Blocks(3)
ALL = [RandomSearch, Grid, AgeingEvolution, Pareto]
each = pytest.mark.parametrize("make", ALL)
SMALL = Variant(
    *("small", 1.0, 1.0, 32, 0.2, 1),
    stages=(
        StageSpec(1, 3, 1, 1, 16, "relu"),
        StageSpec(2, 3, 2, 6, 24, "relu"),
    ),
)
# 24 encodings of 12 networks: a skip of the first block changes nothing.
TWELVE = spaces.blocks(
    SMALL,
    {
        1: {"kernel_size": [3, 5]},
        2: {"kernel_size": [3, 5, 7], "se_ratio": [0, 0.25]},
    },
    depth_coefficient=[0.5, 0.45],
)


def made(make, seed=0):
    """Samplers that leave their first random phase soon."""
    small = {
        AgeingEvolution: {"population": 10, "sample": 4},
        Pareto: {"population": 8},
    }
    return make(seed=seed, **small.get(make, {}))


def evaluated(space: Any, network, number, problem: Blocks | None = PROBLEM):
    points = problem.evaluate(network) if problem else float(number % 7)
    ms = float(problem.cost(network)) if problem else float(number % 5 + 1)
    return Result(
        number=number,
        network=space.encode(network),
        digest=space.digest_or_none(network),
        value=points,
        top1=(points,),
        ms=ms,
    )


def search(
    sampler, budget, lag=0, space: Any = SPACE, problem: Blocks | None = PROBLEM
):
    """Return the history of a search whose results come in `lag` numbers late."""
    history = []
    for number in range(budget):
        network = sampler.ask(space, history[: max(0, number - lag)], number)
        history.append(evaluated(space, network, number, problem))
    return history


@each
@pytest.mark.parametrize("lag", [0, 3])
def test_a_network_is_a_function_of_seed_number_and_history(make, lag):
    history = search(made(make), 60, lag)
    for number in (0, 2, 11, 31, 59):
        shown = history[: max(0, number - lag)]
        network = made(make).ask(SPACE, shown, number)  # one that remembers nothing
        assert SPACE.encode(network) == history[number].network
    other = search(made(make, seed=1), 60, lag)
    assert (other == history) == (make is Grid)


@each
def test_memory_changes_nothing(make):
    """One sampler is asked about two histories, old numbers and several lags."""
    sampler = made(make)
    one, other = (search(made(make), 40, 2), search(made(make), 40, 2))
    other = [dataclasses.replace(result, value=-result.value) for result in other]
    asks = ((39, 2), (5, 2), (38, 2), (38, 20), (38, 0), (0, 2), (39, 3))
    for history in (one, other, one):
        for number, lag in asks:
            shown = history[: max(0, number - lag)]
            asked = sampler.ask(SPACE, shown, number)
            assert asked == made(make).ask(SPACE, shown, number)


@each
def test_results_that_do_not_count_yet_are_cut_off(make):
    history = search(made(make), 40)
    for number in (0, 17, 39):
        assert made(make).ask(SPACE, history, number) == SPACE.decode(
            history[number].network
        )


@each
@pytest.mark.parametrize("lag", [0, 4])
def test_a_small_space_is_used_up_without_repeats(make, lag):
    assert TWELVE.count() == 24
    history = search(made(make), 12, lag, TWELVE, None)
    assert len({result.digest for result in history}) == 12
    with pytest.raises(
        Exhausted, match="every network of the space has been evaluated"
    ):
        made(make).ask(TWELVE, history[: 12 - lag], 12)
    with pytest.raises(Exhausted):
        made(make).ask(TWELVE, history, 12)


@each
def test_never_twice_in_a_large_space(make):
    history = search(made(make), 400, 5)
    assert len({result.digest for result in history}) == 400


@each
def test_asynchronous_histories(make):
    """Numbers are missing: what is there counts, and is not proposed again."""
    full = search(made(make), 60)
    for history in (
        [result for result in full if result.number % 7 != 3],
        [*full[:30], *full[29:59]],  # one twice, one missing
    ):
        network = made(make).ask(SPACE, history, 60)
        assert SPACE.digest_or_none(network) not in {one.digest for one in history}
        # What it was asked before does not matter.
        sampler = made(make)
        sampler.ask(SPACE, full, 60)
        assert sampler.ask(SPACE, history, 60) == network


def test_grid_goes_through_in_order():
    history = search(Grid(), 12, 0, TWELVE, None)
    assert [result.network for result in history[:3]] == [
        "d0.5 / 1 k3 / 2 k3 se0",
        "d0.5 / 1 k3 / 2 k3 se0.25",
        "d0.5 / 1 k3 / 2 k5 se0",
    ]
    assert all(result.network.startswith("d0.5") for result in history)


def test_grid_leaves_invalid_networks_out():
    space = spaces.blocks(SMALL, resolution=[2, 32, 64])
    history = search(Grid(), 2, 0, space, None)
    assert [result.network for result in history] == ["r32", "r64"]


def test_random_is_what_the_space_draws():
    history = search(RandomSearch(seed=7), 50)
    for result in history:
        drawn = SPACE.sample(random.Random(f"7 {result.number}"))
        assert SPACE.decode(result.network) == drawn


def with_values(history, values):
    return [
        dataclasses.replace(result, value=value, top1=() if value is None else (value,))
        for result, value in zip(history, values, strict=True)
    ]


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_evolution_mutates_the_best_of_a_sample():
    """The only good one of the population has most of the children."""
    history = search(RandomSearch(), 30)
    values = [0.0] * 30
    values[24] = 1.0  # alive
    values[3] = 2.0  # better, but too old
    history = with_values(history, values)
    good = SPACE.decode(history[24].network)
    children = [
        AgeingEvolution(seed=seed, population=10, sample=4).ask(SPACE, history, 30)
        for seed in range(300)
    ]
    near = sum(distance(child, good) == 1 for child in children)
    # In a sample of 4 of 10 with replacement with probability 1 - .9^4 = .344; six
    # standard deviations of 300 draws.
    assert abs(near - 300 * (1 - 0.9**4)) < 6 * math.sqrt(300 * 0.344 * 0.656)
    old = SPACE.decode(history[3].network)
    assert not any(distance(child, old) == 1 for child in children)
    alive = [SPACE.decode(result.network) for result in history[20:]]
    assert all(min(distance(c, one) for one in alive) == 1 for c in children)


@pytest.mark.parametrize("failed", [None, math.nan, -math.inf])
def test_failed_results_are_worse_than_any(failed):
    history = search(RandomSearch(), 10)
    history = with_values(history, [failed] * 9 + [-1e300])
    finite = SPACE.decode(history[9].network)
    for seed in range(30):
        sampler = AgeingEvolution(seed=seed, population=10, sample=60)
        # In a sample of 60 it is missing with probability .9^60 = .002.
        assert distance(sampler.ask(SPACE, history, 10), finite) == 1


def test_pareto_mutates_those_in_front():
    history = search(RandomSearch(), 20)
    # Top-1 and ms: 0 and 1 beat all others, which beat each other in a chain; 2 failed.
    points = [(80.0, 10.0), (70.0, 5.0), (99.0, 1.0)]
    points += [(60.0 - i, 20.0 + i) for i in range(17)]
    history = [
        dataclasses.replace(result, top1=(top1,), ms=ms, value=top1)
        for result, (top1, ms) in zip(history, points, strict=True)
    ]
    history[2] = dataclasses.replace(history[2], value=None, reason="diverged")
    front = [SPACE.decode(result.network) for result in history]
    sampler = [Pareto(seed=seed, population=20) for seed in range(300)]
    parents = collections.Counter()
    for one in sampler:
        child = one.ask(SPACE, history, 20)
        parents[[distance(child, parent) for parent in front].index(1)] += 1
    # The k-th of 20 is the better of two with probability (2 (20 - k) - 1) / 400, k
    # from 0; six standard deviations.
    for place, first in ((0, 39), (1, 37), (2, 1)):
        expected = 300 * first / 400
        assert abs(parents[place] - expected) < 6 * math.sqrt(expected) + 1
    few = Pareto(seed=0, population=2).ask(SPACE, history, 20)
    assert min(distance(few, parent) for parent in front[:2]) == 1


def test_all_failed_is_no_end():
    history = with_values(search(RandomSearch(), 30), [None] * 30)
    for make in ALL:
        network = made(make).ask(SPACE, history, 30)
        assert SPACE.digest_or_none(network) not in {r.digest for r in history[:1]} or (
            make is Grid
        )


def dominates(one, other):
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@pytest.mark.parametrize("seed", range(20))
def test_fronts_are_those_of_the_definition(seed):
    """Against peeling by comparing all pairs; few values, so that many are equal."""
    rng = random.Random(seed)
    size = rng.choice([1, 2, 5, 40])
    points = [
        (float(rng.randrange(8)), float(rng.randrange(1, 9))) for _ in range(size)
    ]
    expected, left, front = [0] * size, set(range(size)), 0
    while left:
        best = {
            i for i in left if not any(dominates(points[j], points[i]) for j in left)
        }
        for i in best:
            expected[i] = front
        left -= best
        front += 1
    assert pareto.fronts(points) == expected


@pytest.mark.parametrize("seed", range(20))
def test_who_is_beaten_often_never_comes_back(seed):
    """The best of those that may survive are the best of all, whatever comes later."""
    rng = random.Random(seed)
    number, values = rng.choice([1, 3, 10]), rng.choice([6, 1000])
    points, kept = [], []
    for _ in range(8):
        points += [
            (float(rng.randrange(values)), float(rng.randrange(1, values)))
            for _ in range(rng.randrange(40))
        ]
        new = range(kept[-1] + 1 if kept else 0, len(points))
        rivals = [*kept, *new]
        chosen = pareto.seldom_beaten([points[i] for i in rivals], number)
        for place, i in enumerate(rivals):
            often = sum(dominates(points[j], points[i]) for j in rivals)
            assert (place in chosen) == (often < number)
        kept = [rivals[place] for place in chosen]
        of_kept = pareto.select([points[i] for i in kept], number)
        found = [(kept[i], front, far) for i, front, far in of_kept]
        assert found == pareto.select(points, number)
    assert values == 6 or len(kept) < len(points)


def test_a_view_of_what_grows_is_the_list_so_far():
    history = search(made(AgeingEvolution), 20)
    shown = FirstOf(history, 12)
    assert (list(shown), len(shown)) == (history[:12], 12)
    assert shown[-3:] == history[9:12]
    assert shown[2:40:3] == history[2:12:3]
    assert shown[-1] is history[11]
    with pytest.raises(IndexError):
        shown[12]
    assert len(FirstOf(history, 30)) == 20


@each
def test_views_of_several_lists_are_as_the_lists(make):
    """Of one that grows, and of another one that says something else."""
    sampler = made(make)
    one = search(made(make), 40, 2)
    other = [dataclasses.replace(result, value=-result.value) for result in one]
    grown = []
    for number in range(40):
        grown.append(one[number])
        for history in (grown, one, other, one[: number + 1]):
            shown = FirstOf(history, number + 1)
            asked = sampler.ask(SPACE, shown, number + 1)
            assert asked == made(make).ask(SPACE, list(shown), number + 1)


class Counted(list):
    """A list that counts what is read of it, one by one or in a piece."""

    read = 0

    def __getitem__(self, place):
        found = super().__getitem__(place)
        Counted.read += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self):
        Counted.read += len(self)
        return super().__iter__()

    def __eq__(self, other):
        Counted.read += len(self)
        return super().__eq__(other)

    __hash__ = None


@pytest.mark.parametrize("make", [RandomSearch, AgeingEvolution, Pareto])
def test_an_ask_reads_no_more_of_a_longer_history(make):
    sampler, history, read = made(make), Counted(), []
    for number in range(600):
        Counted.read = 0
        network = sampler.ask(SPACE, FirstOf(history, number), number)
        read.append(Counted.read)
        history.append(evaluated(SPACE, network, number))
    assert max(read[:100]) > 0
    assert max(read[500:]) <= max(read[:100])


def test_no_points():
    assert pareto.fronts([]) == pareto.crowding([]) == pareto.select([], 5) == []


def test_crowding():
    points = [(80.0, 10.0), (70.0, 4.0), (60.0, 2.0), (75.0, 5.0)]
    # Extents 20 and 8; neighbours of (70, 4) are (60, 2), (75, 5), of (75, 5) the next.
    assert pareto.crowding(points) == [
        math.inf,
        15 / 20 + 3 / 8,
        math.inf,
        10 / 20 + 6 / 8,
    ]
    assert pareto.crowding([(1.0, 1.0)] * 3) == [math.inf, 0.0, math.inf]
    chosen = pareto.select([*points, (1.0, 99.0)], 5)
    assert [i for i, _, _ in chosen] == [0, 2, 3, 1, 4]
    assert [front for _, front, _ in chosen] == [0, 0, 0, 0, 1]
    assert [i for i, _, _ in pareto.select([*points, (1.0, 99.0)], 3)] == [0, 2, 3]


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (
            *(AgeingEvolution, {"population": 0}),
            "AgeingEvolution.population = 0: .* from 1 to",
        ),
        (
            AgeingEvolution,
            {"sample": 2.5},
            "AgeingEvolution.sample = 2.5: .* from 1 to",
        ),
        (RandomSearch, {"seed": -1}, "RandomSearch.seed = -1: .* from 0 to"),
        (
            Pareto,
            {"population": "9"},
            "Pareto.population = '9': .* from 1 to .*; write 9",
        ),
    ],
)
def test_settings_that_make_no_sense(make, settings, says):
    with pytest.raises(UserError, match=says):
        make(**settings)


def test_nothing_valid_within_reach():
    @dataclasses.dataclass(frozen=True)
    class Invalid(BlockSpace):
        def digest_or_none(self, network):
            return None

    with pytest.raises(Exhausted, match="of 20,000 networks one after another, none"):
        Grid().ask(Invalid(), [], 0)


@pytest.mark.parametrize(("make", "limit"), [(AgeingEvolution, 1), (Pareto, 1)])
@pytest.mark.slow
def test_an_ask_is_fast_with_10_000_results(make, limit):
    """CPU ms of an ask on the paper's space, as results keep coming in."""
    space, rng, history = spaces.paper(), random.Random(0), []
    for number in range(10_000):
        network = space.sample(rng)
        top1, ms = rng.gauss(75, 2), rng.gauss(40, 9)
        history.append(
            Result(
                number=number,
                network=space.encode(network),
                digest=f"{number:016x}",
                value=top1,
                top1=(top1,),
                ms=ms,
            )
        )
    sampler, asks = make(), 200
    sampler.ask(space, history[:9_000], 9_000)
    start = time.process_time()
    for number in range(9_500, 9_500 + asks):
        sampler.ask(space, history[:number], number)
    # Twice the demand: a machine that is full makes CPU seconds longer, too.
    assert (time.process_time() - start) / asks * 1e3 < 2 * limit
