import dataclasses
import math

import pytest

from benchmarks.support import planted
from common.errors import UserError
from models.scaling import block_specs
from models.variants import VARIANTS
from search import axes
from search.axes import Axes, Point, TrustRegion
from search.strategies import Growth

X = VARIANTS["efficientnet-x-b0"]
# By arithmetic on the rows: up to a depth coefficient of so much, so many blocks.
STAIRCASE = {
    1: 16, 1.25: 23, 1.3333: 24, 1.5: 26, 1.6666: 29, 1.75: 31, 2: 32,
    2.25: 39, 2.3333: 40, 2.5: 42, 2.6666: 45, 2.75: 47, 3: 48, 3.25: 55,
}  # fmt: skip


def blocks(base, depth):
    return len(block_specs(dataclasses.replace(base, depth_coefficient=depth)))


def test_a_depth_stands_for_each_step_of_the_staircase():
    found = axes.axes_of(X, TrustRegion(depth=(1, 3.25))).depths
    assert [blocks(X, depth) for depth in found] == list(STAIRCASE.values())
    ends = list(STAIRCASE)
    for depth, begin, end in zip(found[1:], ends, ends[1:], strict=False):
        assert begin < depth < end  # well inside, whatever rounding does
    assert found[0] == 1.0


@pytest.mark.long
def test_no_number_of_blocks_is_missing():
    found = {blocks(X, depth) for depth in axes.depths(X)}
    scan = {blocks(X, 1 + i / 499) for i in range(3 * 499)}
    assert found == {number for number in scan if number <= 64}
    assert len(axes.depths(X)) == len(found)


def test_the_base_stands_for_its_own_plateau():
    found = axes.axes_of(X, TrustRegion(depth=(0.5, 1.2))).depths
    assert 1.0 in found
    assert [blocks(X, d) for d in found] == sorted({blocks(X, d) for d in found})


def test_ends_that_are_not_scaled_count_and_do_not_grow():
    lite = VARIANTS["efficientnet-lite0"]
    found = axes.axes_of(lite, TrustRegion(depth=(1, 2), most_blocks=28))
    counts = [blocks(lite, depth) for depth in found.depths]
    # Inner stages of 2, 2, 3, 3 and 4 blocks; (1.5, 1.67] has 4, 4, 5, 5 and 7.
    assert counts == [16, 21, 22, 24, 27]


def test_no_network_has_more_blocks_than_the_region_allows():
    found = axes.axes_of(X, TrustRegion(depth=(1, 9), most_blocks=40)).depths
    assert [blocks(X, depth) for depth in found] == list(STAIRCASE.values())[:9]
    with pytest.raises(UserError, match="more than TrustRegion"):
        axes.axes_of(X, TrustRegion(most_blocks=15))


def test_steps_reach_both_ends():
    found = axes.axes_of(X, TrustRegion(width=(1, 1.15), resolution=(224, 245)))
    assert found.widths == (1.0, 1.05, 1.1, 1.15)
    assert found.resolutions == (224, 232, 240)
    assert len(found) == len(found.depths) * 4 * 3


@pytest.mark.parametrize(
    "region",
    [
        {"depth": (2, 1)},
        {"width": (0, 1)},
        {"width": (1, 2, 3)},
        {"depth": 2},
        {"width_step": 0},
        {"most_blocks": "many"},
    ],
)
def test_a_region_of_nothing_is_refused(region):
    with pytest.raises(UserError, match=next(iter(region))):
        TrustRegion(**region)


def test_a_region_holds_its_ends():
    region = TrustRegion()
    assert region.holds(Point(1, 2.0, 600))
    assert region.holds(Point(1, 1.0, 160))
    assert not region.holds(Point(1, 2.05, 600))
    assert not region.holds(Point(1, 2.0, 608))


def test_the_ends_of_a_grid():
    grid = axes.axes_of(X, TrustRegion())
    assert grid.ends_at(Point(grid.depths[-1], 1.0, 600)) == ("depth", "resolution")
    assert grid.ends_at(Point(1.0, 2.0, 224)) == ("width",)
    assert grid.ends_at(Point(1.0, 1.0, 224)) == ()


def test_growth_is_by_the_base_s_own_size():
    lite = VARIANTS["efficientnet-lite4"]  # 300 px
    assert axes.point_of(lite, Growth(2, 1.5, 1.1)) == Point(2, 1.5, 330)


def test_the_border_is_the_largest_size_for_every_depth_and_width():
    grid = Axes((1.0, 2.0), (1.0, 2.0, 3.0), (1, 2, 3, 4))
    # 4 at depth 1 and width 1; nothing at depth 2 and width 3.
    found = axes.border(grid, lambda p: p.depth * p.width * p.resolution, 5)
    assert found == [
        Point(1.0, 1.0, 4),
        Point(1.0, 2.0, 2),
        Point(1.0, 3.0, 1),
        Point(2.0, 1.0, 2),
        Point(2.0, 2.0, 1),
    ]


@pytest.mark.parametrize(
    "seed",
    [*range(6), *(pytest.param(one, marks=pytest.mark.slow) for one in range(6, 20))],
)
def test_the_best_of_a_planted_problem_is_on_the_border(seed):
    """Of 321,489 points, whose best is known by looking at all of them."""
    problem = planted.scaling(seed)
    depths, widths, resolutions = (axis.tolist() for axis in planted.scaling_grid())
    grid = Axes(tuple(depths), tuple(widths), tuple(resolutions))
    for target in (15, 25, 45, 90):
        seen = set()

        def ms(point, seen=seen):
            seen.add(point)
            return float(problem.latency(*point))

        found = axes.border(grid, ms, target)
        best = max((float(problem.quality(*point)), *point) for point in found)
        assert best == pytest.approx(problem.best(target), rel=1e-15)
        assert len(seen) <= 0.05 * len(grid)


def test_nothing_fits():
    grid = Axes((1.0,), (1.0,), (1, 2))
    assert axes.border(grid, lambda _: math.inf, 5) == []
