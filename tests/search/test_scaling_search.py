import dataclasses
import functools
import math

import pytest

from common.errors import UserError
from models import scaling
from models.variants import VARIANTS
from search import axes, latency_sources, strategies
from search.axes import TrustRegion
from search.results import Estimate, Score
from search.scaling import ScalingSearch
from search.scaling_search import Scaling
from search.strategies import STRATEGIES

X = VARIANTS["efficientnet-x-b0"]
# 1,100 networks: each is built by arithmetic, a tenth of a millisecond.
REGION = TrustRegion(
    depth=(1, 3),
    width=(1, 2),
    width_step=0.2,
    resolution=(160, 480),
    resolution_step=32,
)


@functools.cache
def blocks(stages, depth):
    return sum(scaling.round_repeats(stage.num_repeat, depth) for stage in stages)


def size(variant):
    """Return what a size is worth: depth in blocks, width, pixels, over the base's."""
    return (
        blocks(variant.stages, variant.depth_coefficient) / 16,
        variant.width_coefficient,
        variant.resolution / 224,
    )


def milliseconds(variant):
    depth, width, resolution = size(variant)
    return 10 * depth * (0.5 * width**2 + 0.5 * width) * resolution**2


def errors(variant, weights):
    return sum(w * s**-1.0 for w, s in zip(weights, size(variant), strict=True))


class Arithmetic:
    """A source of latency without any error, or with one of a given factor."""

    def __init__(self, factor=lambda variant: 1.0):
        self.factor = factor
        self.asked = []

    def __call__(self, variant):
        self.asked.append(variant.name)
        return Estimate(milliseconds(variant) * self.factor(variant), "arithmetic")


class Forms:
    """A surrogate of two forms, three samples each."""

    forms = ("deep", "wide")
    weights = ((9, 3, 4), (8.9, 3, 4), (9.1, 3, 4), (3, 9, 4), (3, 8.9, 4), (3, 9.1, 4))
    forms_of_samples = ("deep",) * 3 + ("wide",) * 3

    def __call__(self, variant, rung=0):
        samples = tuple(96 - errors(variant, weights) for weights in self.weights)
        return Score(samples, "predicted")


def settings_of(**settings):
    defaults = {
        "name": "mine-b",
        "base": X.name,
        "targets": [25.0],
        "cheap": Arithmetic(),
        "accuracy": Forms(),
        "trust": REGION,
    }
    return Scaling(**{**defaults, **settings})


def search(cheap=None, exact=None, parts=None, accuracy=None, **settings):
    """Return the family that made sources lead to."""
    settings |= {"cheap": cheap or Arithmetic(), "accuracy": accuracy or Forms()}
    made = settings_of(exact=exact, parts=parts, **settings)
    return ScalingSearch(made, made.sources).run()


def top1(member):
    """Return a network's predicted top-1; it has one."""
    assert member is not None
    assert member.score.top1 is not None
    return member.score.top1


def ms(member):
    """Return what the exact source has said."""
    assert member.exact_ms is not None
    return member.exact_ms


def brute_force(most, score):
    """Return the best value of the whole grid, every point looked at."""
    grid = axes.axes_of(X, REGION)
    best = -math.inf
    for depth in grid.depths:
        for width in grid.widths:
            for resolution in grid.resolutions:
                variant = dataclasses.replace(
                    X,
                    depth_coefficient=depth,
                    width_coefficient=width,
                    resolution=resolution,
                )
                if milliseconds(variant) <= most:
                    best = max(best, score(variant))
    return best


@pytest.mark.parametrize("target", [25.0, 60.0])
def test_what_is_found_is_the_best_of_the_whole_grid(target):
    family = search(targets=[target])
    (outcome,) = family.outcomes
    chosen = outcome.chosen
    assert outcome.reached == (milliseconds(chosen.variant) >= 0.97 * target)
    assert milliseconds(chosen.variant) <= target
    # The strategies' own sizes, off the grid, are candidates, too.
    best = brute_force(target, lambda variant: Forms()(variant).top1)
    theirs = [top1(rival.member) for rival in outcome.rivals if rival.member]
    assert top1(chosen) == max([best, *theirs])
    # The walk goes along two axes for every point of the third.
    grid = axes.axes_of(X, REGION)
    assert outcome.asked <= len(grid.depths) * (
        len(grid.widths) + len(grid.resolutions)
    )


def test_each_form_s_own_choice_is_the_best_by_that_form():
    (outcome,) = search().outcomes
    for form, at in (("deep", 1), ("wide", 4)):
        member = outcome.by_form[form]
        own = sorted(member.score.samples[at - 1 : at + 2])[1]
        weights = Forms.weights[at - 1]
        assert own == pytest.approx(96 - errors(member.variant, weights))
        assert own == pytest.approx(
            brute_force(25.0, lambda v, w=weights: 96 - errors(v, w))
        )


def test_no_strategy_is_predicted_to_be_better():
    for outcome in search(targets=[15.0, 40.0, 90.0]).outcomes:
        gains = {r.name: r.gain for r in outcome.rivals if r.member and r.gain}
        assert {"efficientnet", "x-tpu", "x-gpu", "fast", "random"} <= set(gains)
        for name, gain in gains.items():
            (rival,) = [r.member for r in outcome.rivals if r.name == name]
            assert rival is not None
            assert top1(outcome.chosen) >= top1(rival)
            samples = outcome.chosen.score.samples, rival.score.samples
            pairs = zip(*samples, strict=True)
            assert gain.above == sum(a > b for a, b in pairs) / 6


def test_time_at_equal_top1_is_that_of_the_best_network_with_it():
    (outcome,) = search(targets=[60.0]).outcomes
    rival = next(r for r in outcome.rivals if r.name == "efficientnet")
    assert rival.time is not None
    assert rival.time < 1
    theirs = top1(rival.member)

    def score(variant):
        return Forms()(variant).top1

    # A ladder's step is 4 %, and the grid has gaps of its own.
    assert brute_force(rival.time * 60 * 1.06, score) >= theirs
    assert brute_force(rival.time * 60 / 1.06, score) <= theirs


@pytest.mark.parametrize(
    ("strategy", "row"),
    [("efficientnet", "x-b3"), ("x-gpu", "x-gpu-b4"), ("x-tpu", "x-tpu-b2")],
)
def test_a_named_strategy_gives_the_published_rows(strategy, row):
    row = VARIANTS[f"efficientnet-{row}"]
    family = search(targets=[row.name], strategy=strategy)
    (outcome,) = family.outcomes
    assert dataclasses.replace(outcome.chosen.variant, name=row.name) == row
    assert outcome.reached
    assert outcome.ms == pytest.approx(milliseconds(row))


def test_a_strategy_without_a_formula_for_the_base_scales_it_all_the_same():
    family = search(base="efficientnet-lite0", strategy="x-tpu", targets=[40.0])
    chosen = family.outcomes[0].chosen.variant
    assert chosen.stages == VARIANTS["efficientnet-lite0"].stages
    # A step of the depth is a block in several stages at once.
    assert 36 < milliseconds(chosen) <= 40


def slower(variant):
    """Be slower than the cheap source says, by another factor for each network."""
    return 1.25 + 0.04 * math.sin(97 * variant.width_coefficient)


def test_what_is_too_slow_is_repaired_until_it_is_within_the_tolerance():
    exact = Arithmetic(slower)
    (outcome,) = search(exact=exact, targets=[40.0]).outcomes
    chosen = outcome.chosen
    assert outcome.reached
    assert chosen.exact_ms == milliseconds(chosen.variant) * slower(chosen.variant)
    assert abs(ms(chosen) / 40 - 1) <= 0.03
    # Of this factor every finalist was too slow at first.
    assert any(ms(member) > 1.03 * 40 for member in outcome.finalists)
    assert len(exact.asked) == len(outcome.finalists)


def test_what_cannot_be_repaired_says_so():
    only = TrustRegion(width=(1, 1), resolution=(160, 160), depth=(1, 1))
    (outcome,) = search(
        exact=Arithmetic(lambda _: 1.5), trust=only, targets=[40.0], strategy="free"
    ).outcomes
    assert not outcome.reached


def test_the_shortlist_is_looked_at_and_the_fastest_taken():
    """The sum of parts says that even numbers of blocks are much slower."""

    def odd(variant):
        return (
            1.5 if blocks(variant.stages, variant.depth_coefficient) % 2 == 0 else 1.0
        )

    parts, exact = Arithmetic(odd), Arithmetic(odd)
    (outcome,) = search(parts=parts, exact=exact, targets=[40.0]).outcomes
    assert len(parts.asked) == 20
    assert all(
        blocks(m.variant.stages, m.variant.depth_coefficient) % 2
        for m in outcome.finalists
    )


class Learns(Arithmetic):
    """A cheap source that is wrong by the factor it has seen last."""

    def __init__(self):
        super().__init__(lambda _: self.known)
        self.known = 1.0
        self.learned = []

    def refit(self, rows):
        self.learned += [row.name for row in rows]
        self.known = rows[-1].ms / milliseconds(rows[-1].variant())
        return self


def test_the_cheap_source_learns_from_exact_answers_between_targets():
    cheap, exact = Learns(), Arithmetic(lambda _: 1.25)
    first, second = search(cheap=cheap, exact=exact, targets=[40.0, 60.0]).outcomes
    assert set(cheap.learned) == {member.variant.name for member in first.finalists}
    assert first.finalists[0].cheap_ms != pytest.approx(first.finalists[0].exact_ms)
    for member in second.finalists:
        assert member.cheap_ms == pytest.approx(member.exact_ms)


class NoMemory(Arithmetic):
    """Networks of more pixels do not fit."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def __call__(self, variant):
        if variant.resolution > self.most:
            return Estimate(None, "exact", reason="needs 17 GB of 16 GB")
        return super().__call__(variant)


def test_the_time_of_a_target_by_name_is_learned_at_once():
    cheap, exact = Learns(), Arithmetic(lambda _: 1.25)
    (outcome,) = search(
        cheap=cheap, exact=exact, targets=["efficientnet-x-b2"]
    ).outcomes
    assert cheap.learned[0] == "efficientnet-x-b2"
    assert outcome.finalists[0].cheap_ms == outcome.finalists[0].exact_ms


def test_the_trust_region_holds_for_what_strategies_would_take():
    narrow = TrustRegion(depth=(1, 4), width=(1, 1.05), resolution=(160, 224))
    (outcome,) = search(targets=[20.0], trust=narrow).outcomes
    point = outcome.chosen.point
    assert narrow.holds(point)
    assert any(r.member and not narrow.holds(r.member.point) for r in outcome.rivals)


def test_why_there_is_nothing_is_said():
    def never(variant):
        return Estimate(None, "mine", reason="the board is not plugged in")

    with pytest.raises(UserError, match="board is not plugged in"):
        search(cheap=never)


def test_a_target_that_no_network_takes_ends():
    (outcome,) = search(targets=[1e9]).outcomes
    assert not outcome.reached
    assert all(r.member is None for r in outcome.rivals if r.name != "random")


class OfX(Forms):
    base, family = X, "efficientnet-x"


def test_sources_of_other_conditions_are_refused():
    cheap = latency_sources.tile_model("v5e")
    whole = latency_sources.whole
    own = latency_sources.function("tests.support.toy_lacs:milliseconds")
    for exact in (None, whole("v5e"), whole("v5e:4x4"), own, Arithmetic()):
        settings_of(cheap=cheap, exact=exact, parts=latency_sources.sum_of_parts("v5e"))
    said = r"Scaling\.cheap has latencies of v5e, batch 64, bfloat16, and Scaling\."
    others = (whole("v3"), "v3, batch 64"), (whole("v5e", batch=8), "v5e, batch 8")
    for exact, other in others:
        with pytest.raises(UserError, match=rf"{said}exact of {other}, bfloat16: bind"):
            settings_of(cheap=cheap, exact=exact)
    parts = latency_sources.sum_of_parts("v5e", dtype="float32")
    with pytest.raises(UserError, match=rf"{said}parts of v5e, batch 64, float32: b"):
        settings_of(cheap=cheap, parts=parts)


def test_a_surrogate_of_another_kind_is_refused():
    assert search(accuracy=OfX()).outcomes
    with pytest.raises(UserError, match=r"surrogate\.family"):
        search(accuracy=OfX(), base="efficientnetv2-b0")


def test_what_does_not_fit_is_left_out_with_its_reason():
    sources = {"cheap": NoMemory(300), "exact": NoMemory(260)}
    (outcome,) = search(**sources, targets=[100.0], finalists=20).outcomes
    assert outcome.chosen.variant.resolution <= 260
    assert set(outcome.failures.values()) == {"exact: needs 17 GB of 16 GB"}
    with pytest.raises(UserError, match="needs 17 GB of 16 GB"):
        search(cheap=Arithmetic(), exact=NoMemory(1), targets=[60.0])


def test_networks_get_names_and_the_dropout_of_published_ones():
    family = search(targets=[20.0, 200.0])
    small, large = [outcome.chosen.variant for outcome in family.outcomes]
    assert (small.name, large.name) == ("mine-b1", "mine-b2")
    # 2.4 and 27 times the base's MACs; B2 has 2.6 times B0's, B5 27.
    assert (small.dropout_rate, large.dropout_rate) == (0.3, 0.4)


def test_a_target_below_the_base_has_no_network():
    with pytest.raises(UserError, match=r"no size of efficientnet-x-b0 .* 1\.00 ms"):
        search(targets=[1.0])


def test_a_network_of_its_own_gets_the_same_again():
    first, again = search(targets=[33.0]), search(targets=[33.0])
    assert first.as_json() == again.as_json()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "x-tpuu"}, "'free', 'efficientnet', .* or "),
        ({"targets": 20.0}, "has to be a list of milliseconds"),
        ({"targets": []}, "has to be a list of milliseconds"),
        ({"targets": [-1.0]}, "has to be a list of milliseconds"),
        ({"targets": [math.nan]}, "has to be a list of milliseconds"),
        ({"targets": ["efficientnet-x-b"]}, "did you mean"),
        ({"base": "efficientnet-x-b9"}, "did you mean"),
        ({"cheap": None}, "Scaling.cheap has to be a source"),
        ({"exact": 3}, "Scaling.exact has to be a source"),
        ({"cheap": latency_sources.tile_model}, "behind it is missing"),
        ({"tolerance": 0}, "tolerance = 0"),
        ({"shortlist": 2.5}, "shortlist = 2.5"),
        ({"trust": (1, 2)}, "TrustRegion"),
        ({"name": "../evil"}, "a name of files"),
        ({"name": "a\nb"}, "a name of files"),
        ({"references": "efficientnet-b0"}, "a list of names"),
        ({"references": ["resnet"]}, "unknown variant 'resnet'"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=words):
        settings_of(**settings)


def test_references_stand_as_published():
    family = search(references=["efficientnetv2-s", "efficientnet-x-b1"])
    v2, x = family.references
    assert (v2["name"], v2["published_top1"]) == ("efficientnetv2-s", 83.9)
    assert (v2["predicted_top1"], v2["predicted_reason"]) == (None, "another kind")
    assert x["predicted_top1"] == Forms()(VARIANTS[x["name"]]).top1
    assert x["published_remark"].startswith("as remembered")
    assert v2["ms"] == milliseconds(VARIANTS["efficientnetv2-s"])


def test_points_are_what_strategies_say():
    point = axes.point_of(X, STRATEGIES["x-tpu"].curve(3))
    assert point == pytest.approx((1.62, 1.27, 263))
    assert strategies.follow(STRATEGIES["x-tpu"], lambda g: g.depth, 1.62) == 3.0
