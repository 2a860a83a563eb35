import dataclasses
import itertools
import math
import time

import numpy as np
import pytest

from common.errors import UserError
from models import scaling
from models.variants import StageSpec, Variant, change, get_variant
from search import latency_sources
from search.latencies import latency_table, tile_model
from search.latencies.latency_table import MEASURED, SUM, Conditions
from search.latencies.tile_features import FEATURES, NEAR_BYTES, Layout
from search.latencies.tile_model import Fitted, TileModel, coefficients, left_out, rms
from tests.search.networks import row, scaled, table

X_B0 = get_variant("efficientnet-x-b0")
FOUR = ("depthwise_out", "depthwise_lanes", "dense_out", "matrix")


def up(value, to):
    return math.ceil(value / to) * to


def plain_features(variant, batch=64, value_bytes=2):
    """Returns the features of one network, layer by layer, in Python's integers."""
    found = dict.fromkeys(FEATURES, 0)
    size = math.ceil(variant.resolution / 2)

    def written(size, channels):
        values = batch * size**2 * up(channels, 128)
        found["spilled"] += max(0, values - NEAR_BYTES // value_bytes)
        return values

    def dense(size, kernel, inputs, outputs):
        values = written(size, outputs)
        found["dense_out"] += values
        found["matrix"] += values * kernel**2 * up(inputs, 8)
        return values

    def depthwise(size, kernel, channels):
        values = written(size, channels)
        found["depthwise_out"] += batch * size**2 * up(channels, 8)
        found["depthwise_lanes"] += values
        found["depthwise_taps"] += values * kernel**2
        return values

    dense(size, 3, 3, scaling.stem_filters(variant))
    specs = scaling.block_specs(variant)
    for spec in specs:
        inputs = spec.input_filters
        if spec.space_to_depth != "none":
            size, inputs = math.ceil(size / 2), 4 * inputs
        if spec.space_to_depth == "conv":
            dense(size, 2, spec.input_filters, inputs)
        if not spec.fused and spec.has_expansion:
            dense(size, 1, inputs, spec.expanded_filters)
        size = math.ceil(size / spec.strides)
        if spec.fused:
            seen = dense(size, spec.kernel_size, inputs, spec.expanded_filters)
        else:
            seen = depthwise(size, spec.kernel_size, spec.expanded_filters)
        found["expanded"] += seen
        dense(size, 1, spec.expanded_filters, spec.output_filters)
    dense(size, 1, specs[-1].output_filters, scaling.head_filters(variant))
    return [found[name] / 1e9 for name in FEATURES]


def test_features_of_a_network_by_hand():
    stage = StageSpec(1, 3, 2, 2, 8, "relu")
    tiny = Variant("tiny", 1.0, 1.0, 9, 0.2, 1, (stage,), 8, 16)
    (found,) = Layout.of(tiny).features([9], 2, "bfloat16")
    # 5 x 5 behind the stem, 3 x 3 behind the block, two images.
    before, behind = 2 * 25, 2 * 9
    assert dict(zip(FEATURES, found * 1e9, strict=True)) == pytest.approx(
        {
            "depthwise_out": behind * 16,
            "depthwise_lanes": behind * 128,
            "depthwise_taps": behind * 9 * 128,
            "dense_out": (2 * before + 2 * behind) * 128,
            # Stem, expansion, projection, head.
            "matrix": (before * (9 * 8 + 8) + behind * (16 + 8)) * 128,
            "expanded": behind * 128,
            "spilled": 0,
        },
        rel=1e-12,
    )


@pytest.mark.parametrize(
    "variant",
    [
        get_variant("efficientnet-x-b5"),
        get_variant("efficientnet-b1"),
        scaled(1.35, 1.7, 253),
        change(X_B0, {2: {"fused": False}, 5: {"fused": True}}),
        change(X_B0, {1: {"space_to_depth": "reshuffle"}}),
    ],
    ids=lambda one: one.name,
)
def test_features_at_many_resolutions_are_those_of_each_network(variant):
    sizes = [64, 225, variant.resolution]
    found = Layout.of(variant).features(sizes, 64, "bfloat16")
    for size, features in zip(sizes, found, strict=True):
        one = dataclasses.replace(variant, resolution=size)
        # Sums of integers: exact but for the division.
        assert features == pytest.approx(plain_features(one), rel=1e-12)


def test_values_of_float32_spill_sooner():
    (half,) = Layout.of(X_B0).features([224], 64, "bfloat16")
    (full,) = Layout.of(X_B0).features([224], 64, "float32")
    assert full == pytest.approx(plain_features(X_B0, value_bytes=4), rel=1e-12)
    assert full[-1] > half[-1] > 0


def fitted(features, ms, kind=()):
    digest = f"{abs(hash(tuple(features))):016x}"[:16]
    made = latency_table.NetworkRow(digest=digest, name="n", ms=ms)
    return Fitted(made, kind, np.array(features, float))


def random_rows(weights, seed, number=30, noise=0.0):
    rng = np.random.default_rng(seed)
    features = rng.uniform(0.1, 3, (number, len(FEATURES)))
    ms = features @ weights * (1 + noise * rng.standard_normal(number))
    return [fitted(one, float(t)) for one, t in zip(features, ms, strict=True)]


def test_weights_are_found_again():
    weights = np.array([3.0, 0, 0.5, 2.0, 0.01, 0, 0])
    found = coefficients(random_rows(weights, 1), FEATURES)
    assert found == pytest.approx(weights, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_the_best_that_are_not_negative(seed):
    """By the conditions of Karush, Kuhn and Tucker, which are enough here."""
    weights = np.array([3.0, -1.0, 0.5, 2.0, 0.4, 1.0, -0.3])
    rows = random_rows(weights, seed, noise=0.05)
    rows = [one for one in rows if one.ms > 0]
    found = coefficients(rows, FEATURES)
    assert (found >= 0).all()
    assert (found == 0).any()
    matrix = np.array([one.features / one.ms for one in rows])
    gradient = matrix.T @ (matrix @ found - 1)
    # Sums of 30 terms of up to some 10, each off by one rounding of the solution.
    assert np.abs(gradient[found > 0]).max() < 1e-9
    assert gradient[found == 0].min() > -1e-9


def test_errors_are_those_of_a_fit_without_the_network():
    rows = random_rows(np.arange(1.0, 8), 3, number=12, noise=0.1)
    errors = left_out(rows, FOUR)
    places = [FEATURES.index(name) for name in FOUR]
    for one in rows:
        weights = coefficients([other for other in rows if other is not one], FOUR)
        expected = one.features[places] @ weights / one.ms - 1
        assert errors[one.row.digest] == pytest.approx(expected, rel=1e-12)
    assert rms([0.3, -0.4]) == pytest.approx(math.sqrt(0.125))


def grid():
    axes = list(itertools.product((1.0, 1.4, 2.0), (1.0, 1.5), (224, 320)))
    bases = "efficientnet-x-b0", "efficientnet-b0"
    return [scaled(*axis, base) for base in bases for axis in axes]


WEIGHTS = dict(zip(FOUR, (30.0, 15.0, 10.0, 0.03), strict=True))


def planted_ms(variant):
    features = dict(zip(FEATURES, plain_features(variant), strict=True))
    return sum(weight * features[name] for name, weight in WEIGHTS.items())


@pytest.fixture(scope="module")
def planted():
    """TileModel: fitted to milliseconds that are exactly of its form."""
    return TileModel(table([row(one, planted_ms(one)) for one in grid()]))


def test_a_planted_model_predicts_what_it_has_not_seen(planted):
    other = scaled(1.7, 2.2, 277)
    found = planted(other)
    assert found.ms == pytest.approx(planted_ms(other), rel=1e-9)
    assert found.source == "tile model"
    assert found.error == pytest.approx(0, abs=1e-9)
    assert planted.error == pytest.approx(0, abs=1e-9)


def test_a_table_that_was_measured_is_fitted_alike(tmp_path):
    """As one that `search.table --device` makes on a GPU."""
    device = Conditions("Some GPU", 64, "bfloat16")
    rows = [row(one, planted_ms(one), source=MEASURED) for one in grid()]
    path = tmp_path / "gpu.json"
    latency_table.write(path, table(rows, device))
    model = latency_sources.fitted(str(path))
    other = scaled(1.7, 2.2, 277)
    assert model(other).ms == pytest.approx(planted_ms(other), rel=1e-9)
    newer = row(other, 2 * planted_ms(other), source=MEASURED)
    assert len(model.refit([newer]).rows) == len(rows) + 1
    with pytest.raises(UserError, match="not v3"):
        latency_sources.tile_model("v3", fit=str(path))


def test_many_answers_in_the_order_of_the_questions(planted):
    asked = [scaled(w, 1.2, r) for r in (320, 224, 160) for w in (1.0, 1.3)]
    asked.insert(2, dataclasses.replace(X_B0, resolution=16))
    found = planted.many(asked)
    assert [one.ms for one in found] == [planted(one).ms for one in asked]
    assert found[2].ms is None
    assert "resolution 16 is too small" in found[2].reason
    assert planted.many([]) == []


def test_huge_images_and_lists_of_stages(planted):
    huge = dataclasses.replace(X_B0, resolution=8192)
    assert planted(huge).ms == pytest.approx(planted_ms(huge), rel=1e-9)
    listed = dataclasses.replace(X_B0, stages=list(X_B0.stages))
    assert planted(listed) == planted(X_B0)


def test_an_invalid_resolution_does_not_spoil_the_layout(planted):
    small = scaled(1.15, 1.0, 31)
    assert "too small" in planted(small).reason
    assert planted(dataclasses.replace(small, resolution=32)).ms > 0
    assert "too small" in planted(small).reason


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (get_variant("efficientnetv2-s"), "block 0 has no squeeze-and-excite"),
        (get_variant("efficientnet-lite0"), "block 0 has no squeeze-and-excite"),
        (get_variant("efficientnet-x-b3-timm"), "in timm's dialect"),
        (
            change(X_B0, {4: {"space_to_batch": 2}}),
            "block 5 moves pixels into the batch",
        ),
        (
            change(X_B0, {1: {"project": False, "fused": True}}),
            "block 0 has no projection",
        ),
        (change(X_B0, {5: {"fused": True}}), "fewer than 3 networks"),
    ],
)
def test_outside_of_its_domain_it_says_so(planted, variant, reason):
    found = planted(variant)
    assert found.ms is None
    assert found.error is None
    assert reason in found.reason


def test_refitted_with_three_networks_of_a_base_it_knows_the_base(planted):
    fused = change(X_B0, {5: {"fused": True}})
    compiled = [
        row(dataclasses.replace(fused, resolution=size), float(size))
        for size in (224, 256, 288)
    ]
    assert planted.refit(compiled[:2])(fused).ms is None
    known = planted.refit(compiled)
    assert known(fused).ms > 0
    # What such networks are off is theirs alone.
    assert known(fused).error > 0.01
    assert known(scaled(1.2, 1.2, 240)).error < known(fused).error
    assert planted(fused).ms is None


def test_refitted_with_other_milliseconds_of_a_network_the_newest_count(planted):
    doubled = planted.refit(row(one, 2 * planted_ms(one)) for one in grid())
    other = scaled(1.7, 2.2, 277)
    assert doubled(other).ms == pytest.approx(2 * planted_ms(other), rel=1e-9)
    assert len(doubled.rows) == len(planted.rows)
    sums = planted.refit(row(one, 1.0, source=SUM) for one in grid())
    assert sums(other).ms == planted(other).ms


def test_a_base_left_out_is_another_matter():
    rows = [
        row(one, planted_ms(one) * (2 if one.stages == X_B0.stages else 1))
        for one in grid()
    ]
    model = TileModel(table(rows))
    assert (model.error_of_other_kinds or 0) > 2 * model.error > 0.02
    alone = TileModel(table(rows[: len(rows) // 2]))
    assert alone.error_of_other_kinds is None


def test_too_few_networks():
    rows = [row(one, planted_ms(one)) for one in grid()[:7]]
    with pytest.raises(UserError, match=r"needs 8 whole .* there are 7 for v3"):
        TileModel(table(rows))
    failed = row(scaled(1.9, 1, 224), None, reason="does not fit")
    with pytest.raises(UserError, match="there are 7"):
        TileModel(table([*rows, failed, row(grid()[8], 1.0, source=SUM)]))


@pytest.mark.parametrize("topology", ["v3", "v5e"])
def test_the_project_s_networks_are_within_three_percent(topology):
    """Else: python -m benchmarks.tpu.tile_model says which are not."""
    model = latency_sources.tile_model(topology)
    assert len(model.rows) >= 20
    assert len(model.chosen) == 4
    assert model.error <= 0.03
    own = model(X_B0)
    assert 0 < (own.error or 0) <= 0.03
    known = model.table.networks[latency_table.digest_of(X_B0)]
    assert own.ms == pytest.approx(known.ms, rel=0.05)


@pytest.mark.parametrize(
    "path", sorted(latency_sources.DATA.glob("compiled_*.json")), ids=lambda p: p.name
)
def test_the_project_s_tables_describe_their_networks(path):
    found = latency_table.read(path)
    assert path.name == f"compiled_{found.conditions.hardware}.json"
    for digest, known in found.networks.items():
        assert latency_table.digest_of(known.variant()) == digest


def test_v2_is_where_the_model_does_not_hold():
    """Why: in the tables that have V2, it would be a fifth and more off."""
    model = latency_sources.tile_model("v5e")
    places = [FEATURES.index(name) for name in model.chosen]
    off = []
    for known in model.table.networks.values():
        variant = known.variant()
        if variant.name.startswith("efficientnetv2") and known.ms:
            (one,) = Layout.of(variant).features([variant.resolution], 64, "bfloat16")
            off.append(one[places] @ model.weights / known.ms - 1)
            assert model(variant).ms is None
    assert off
    assert rms(off) > 0.2


@pytest.mark.long
def test_twenty_thousand_networks_take_seconds(planted):
    widths = [1 + 0.05 * step for step in range(40)]
    depths = [1, 1.2, 1.3, 1.5, 1.6, 1.7, 2, 2.2, 2.3, 2.4, 2.6, 2.7, 3, 3.2]
    asked = [
        scaled(width, depth, size)
        for width in widths
        for depth in depths
        for size in range(160, 592, 12)
    ]
    start = time.process_time()
    found = planted.many(asked)
    # 0.7 s of CPU where it was measured; the rest is for slower and busier machines.
    assert time.process_time() - start < 5
    assert len(found) == 20_160
    assert min(one.ms for one in found) == planted(scaled(1.0, 1, 160)).ms


def test_the_set_of_features_may_be_named():
    rows = [row(one, planted_ms(one)) for one in grid()]
    model = TileModel(table(rows), ("depthwise_taps", "matrix"))
    assert model.chosen == ("depthwise_taps", "matrix")
    assert model.error > 0.001
    refitted = model.refit(rows[:1])
    assert refitted.chosen == ("depthwise_taps", "matrix")


def test_the_better_one_of_two_sets_is_taken(planted):
    assert planted.chosen == FOUR == tile_model.SETS[0]
    weights = dict(zip(FEATURES, (20.0, 0, 0, 0, 0.01, 10.0, 3.0), strict=True))
    rows = [
        row(
            one,
            sum(
                weight * feature
                for weight, feature in zip(
                    weights.values(), plain_features(one), strict=True
                )
            ),
        )
        for one in grid()
    ]
    other = TileModel(table(rows))
    assert other.chosen == tile_model.SETS[1]
    assert other.error == pytest.approx(0, abs=1e-9)
