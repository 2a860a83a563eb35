import dataclasses
import math

import pytest

from models.variants import VARIANTS
from search import strategies
from search.strategies import STRATEGIES, Growth

X = VARIANTS["efficientnet-x-b0"]
FAMILIES = {"efficientnet": "x-b", "x-tpu": "x-tpu-b", "x-gpu": "x-gpu-b"}


def cost(growth: Growth) -> float:
    return growth.depth * growth.width**2 * growth.resolution**2


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("number", range(1, 8))
def test_the_published_rows_are_on_their_curves(name, number):
    strategy = STRATEGIES[name]
    row = VARIANTS[f"efficientnet-{FAMILIES[name]}{number}"]
    depth, width, resolution = strategy.curve(number)
    # Logarithm and exponential each round once: a few units of the last place.
    assert depth == pytest.approx(row.depth_coefficient, rel=1e-14)
    assert width == pytest.approx(row.width_coefficient, rel=1e-14)
    assert round(224 * resolution) == row.resolution
    assert strategy.row(float(number), X) == row


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("number", range(1, 8))
def test_a_row_s_own_time_leads_to_the_row(name, number):
    strategy = STRATEGIES[name]
    assert strategies.follow(strategy, cost, cost(strategy.curve(number))) == number


def test_a_row_stands_only_for_its_own_base():
    strategy = STRATEGIES["x-tpu"]
    wider = dataclasses.replace(X, width_coefficient=1.5)
    assert strategy.row(3.0, wider) is None
    assert strategy.row(3.5, X) is None
    assert strategy.row(9.0, X) is None
    assert STRATEGIES["fast"].row(1.0, X) is None


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("target", [1.7, 5.2, 11.0])
def test_a_curve_is_followed_to_the_target(name, target):
    at = strategies.follow(STRATEGIES[name], cost, target)
    assert at is not None
    found = cost(STRATEGIES[name].curve(at))
    # 30 halvings of an interval of at most 8 leave 1e-8 of the parameter; no curve
    # grows by more than e^3 a step. A row within a thousandth stands for itself.
    assert found <= target * 1.001
    assert found == pytest.approx(target, rel=1e-3 if at == int(at) else 1e-6)


@pytest.mark.parametrize("share", [1 / 3, 0.8, 1.0])
def test_fast_scaling_grows_macs_by_its_parameter(share):
    curve = strategies.fast(share)
    for parameter in (0.0, 1.0, 3.5):
        assert math.log2(cost(curve(parameter))) == pytest.approx(parameter)
    depth, width, _ = curve(1.0)
    assert math.log2(width) == pytest.approx(share / 2)
    assert math.log2(depth) == pytest.approx((1 - share) / 2)


def test_beyond_the_last_row_a_curve_goes_on():
    curve = strategies.through([X, VARIANTS["efficientnet-x-b2"]])
    assert curve(2.0).width == pytest.approx(1.1**2)


def test_targets_that_a_curve_does_not_meet():
    assert strategies.follow(STRATEGIES["fast"], cost, 0.5) is None
    assert strategies.follow(STRATEGIES["fast"], lambda _: 1.0, 2.0) is None
