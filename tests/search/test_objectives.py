import math

import pytest

from common.errors import UserError
from search.objectives import Absolute, HardProduct, OneSided, Product

ALL = [Product, HardProduct, Absolute, OneSided]
each = pytest.mark.parametrize("make", ALL)
POINTS = [(top1, ms) for top1 in (60.0, 78.0, 84.9) for ms in (11.0, 39.0, 41.0, 170.0)]
EPS = 2.0**-52


@pytest.mark.parametrize(
    ("objective", "ms", "value"),
    [
        # 78 % at T0, at twice and at half of it.
        (Product(40), 40, 0.78),
        (Product(40), 80, 0.78 * 2**-0.07),
        (Product(40), 20, 0.78 * 2**0.07),
        (HardProduct(40), 80, 0.78 * 2**-0.07),
        (HardProduct(40), 20, 0.78),
        (Absolute(40), 40, 0.78),
        (Absolute(40), 80, 0.68),
        (Absolute(40), 20, 0.73),
        (OneSided(40), 60, 0.73),
        (OneSided(40), 20, 0.78),
        (Product(40, exponent=-1), 80, 0.39),
        (Absolute(40, slope=-0.5), 80, 0.28),
        (OneSided(40, penalty=0.5), 80, 0.28),
    ],
)
def test_values(objective, ms, value):
    # Five roundings at most, of numbers of this size.
    assert objective(78, ms) == pytest.approx(value, rel=5 * EPS)


@each
@pytest.mark.parametrize(("top1", "ms"), POINTS)
def test_rate_is_the_numeric_derivative(make, top1, ms):
    """Central differences of step h are off by h^2 / 6 of the third derivative."""
    objective, h = make(40.0), 1e-5
    by_accuracy = (objective(top1 + h, ms) - objective(top1 - h, ms)) / (2 * h)
    faster, slower = ms * math.exp(-h), ms * math.exp(h)
    by_latency = (objective(top1, slower) - objective(top1, faster)) / (2 * h)
    rate = objective.rate(top1, ms)
    # A rounding error of EPS in each value becomes EPS / h of a slope; slopes are .01
    # and about .05, so that 4 * EPS / h / .01 and h^2 are the errors to be expected.
    tolerance = 4 * EPS / h / 0.01 + h**2
    if math.isinf(rate):
        assert abs(by_latency) <= EPS / h
    else:
        # One point more: how much more of ln T gives the value back?
        assert rate == pytest.approx(-100 * by_accuracy / by_latency, rel=tolerance)


@each
def test_one_point_is_paid_by_as_much_latency(make):
    """At 1/1000 of a point the formula itself, not its slope."""
    objective, ms = make(40.0), 47.0
    share = objective.rate(78, ms) / 100 / 1000
    assert objective(78.001, ms * (1 + share)) == pytest.approx(
        # The second order of a step of about 1e-4: 1e-8 of it, times slopes below 1.
        *(objective(78, ms),),
        abs=1e-8,
    )


def test_the_rates_of_the_literature():
    """MnasNet's w = -0.07: .01 / (.07 * .78) = 18.3 %; TuNAS' b = -0.1: 10 %."""
    assert Product(40).rate(78, 40) == pytest.approx(100 / 7 / 0.78)
    assert HardProduct(40).rate(78, 40) == pytest.approx(100 / 7 / 0.78)
    assert HardProduct(40).rate(78, 39) == math.inf
    assert Absolute(40).rate(78, 40) == pytest.approx(10)
    assert Absolute(40).rate(78, 40, below=True) == pytest.approx(-10)
    assert Absolute(40).rate(78, 20) == pytest.approx(-20)
    assert OneSided(40).rate(78, 80) == pytest.approx(5)
    assert OneSided(40).rate(78, 40, below=True) == math.inf


@pytest.mark.parametrize(
    ("objective", "ms", "sentence"),
    [
        (
            *(Product(40), 30),
            "At 78 % and 30 ms below the target, 1 point of top-1 buys 18.3 % of "
            "latency.",
        ),
        (
            *(Product(40), 40),
            "At 78 % and 40 ms, 1 point of top-1 buys 18.3 % of latency.",
        ),
        (
            *(HardProduct(40), 40),
            "At 78 % and the target of 40 ms, 1 point of top-1 buys 18.3 % of latency "
            "if slower; if faster, latency counts for nothing.",
        ),
        (
            *(Absolute(40), 20),
            "At 78 % and 20 ms below the target, 1 point of top-1 makes up for being "
            "20 % faster, which costs.",
        ),
        (
            *(OneSided(40), 80),
            "At 78 % and 80 ms above the target, 1 point of top-1 buys 5 % of latency.",
        ),
    ],
)
def test_the_sentence(objective, ms, sentence):
    assert objective.exchange_rate(78, ms) == sentence


@each
def test_more_accurate_is_better_and_slower_never_is_above(make):
    objective = make(40.0)
    assert objective(79, 45) > objective(78, 45) > objective(78, 46)
    assert objective(79, 30) > objective(78, 30)


def test_below_the_target():
    """Who likes faster networks there, who is indifferent, who does not."""
    faster = [make(40.0)(78, 20) - make(40.0)(78, 30) for make in ALL]
    assert faster[0] > 0
    assert faster[1] == 0 == faster[3]
    assert faster[2] < 0


@each
@pytest.mark.parametrize("target", [0, -1, math.nan, math.inf, "40", None, True])
def test_no_target(make, target):
    with pytest.raises(UserError, match=f"{make.__name__}.target_ms = .*above 0"):
        make(target)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Product(40, exponent=0.07), "Product.exponent = 0.07: .* below 0"),
        (lambda: HardProduct(40, exponent=0), "HardProduct.exponent = 0: .* below 0"),
        (lambda: Absolute(40, slope=0.1), "Absolute.slope = 0.1: .* below 0"),
        (lambda: OneSided(40, penalty=-0.1), "OneSided.penalty = -0.1: .* above 0"),
    ],
)
def test_signs_the_wrong_way(make, says):
    with pytest.raises(UserError, match=says):
        make()


@each
@pytest.mark.parametrize(
    ("top1", "ms", "says"),
    [
        (math.nan, 40, "nan is no top-1 in %"),
        (100.1, 40, "100.1 is no top-1 in %"),
        (-1, 40, "-1 is no top-1 in %"),
        (78, 0, "0 is no latency in ms"),
        (78, math.nan, "nan is no latency in ms"),
        (78, math.inf, "inf is no latency in ms"),
        (None, 40, "None is no top-1 in %"),
    ],
)
def test_no_numbers(make, top1, ms, says):
    with pytest.raises(UserError, match=says):
        make(40.0)(top1, ms)


def test_values_too_large():
    with pytest.raises(UserError, match="no number for 78 % in 1e-300 ms"):
        Product(1.0, exponent=-2.0)(78, 1e-300)
    with pytest.raises(UserError, match="no number for 78 % in 5e-324 ms"):
        Product(1e9)(78, 5e-324)
    with pytest.raises(UserError, match=r"no number for 78 % in 1e\+300 ms"):
        OneSided(1e-300)(78, 1e300)
