"""EfficientNet-Lite and EfficientNetV2 against what their authors publish of them.

Their logits are compared in test_timm_goldens and in tests/peers.
"""

import pytest

from models import complexity, scaling, variants
from models.reference_variables import variables
from models.variants import get_variant

# By name: width, depth, pixels, dropout (tensorflow/tpu at 7dc921f, lite/
# efficientnet_lite_builder.py; google/automl at 6a54c87, effnetv2_configs.py); blocks;
# parameters that learn, and with batch norm's statistics (of V2 these are the eight
# numbers of automl's effnetv2_model_test.py); multiply-accumulates.
ROWS = {
    "lite0": (1.0, 1.0, 224, 0.2, 16, 4_652_008, 4_694_024, 385_187_552),
    "lite1": (1.0, 1.1, 240, 0.2, 21, 5_416_680, 5_470_344, 600_185_232),
    "lite2": (1.1, 1.2, 260, 0.3, 21, 6_092_072, 6_150_168, 859_736_272),
    "lite3": (1.2, 1.4, 280, 0.3, 24, 8_197_096, 8_273_768, 1_383_321_872),
    "lite4": (1.4, 1.8, 300, 0.3, 30, 13_006_568, 13_118_936, 2_553_034_336),
    "v2-b0": (1.0, 1.0, 224, 0.2, 21, 7_139_704, 7_200_312, 718_086_176),
    "v2-b1": (1.0, 1.1, 240, 0.2, 27, 8_141_052, 8_212_124, 1_196_819_360),
    "v2-b2": (1.1, 1.2, 260, 0.3, 28, 10_096_086, 10_178_374, 1_697_542_832),
    "v2-b3": (1.2, 1.4, 300, 0.3, 32, 14_358_406, 14_467_622, 3_011_458_816),
    "v2-s": (1.0, 1.0, 384, 0.2, 40, 21_458_488, 21_612_360, 8_365_617_152),
    "v2-m": (1.0, 1.0, 480, 0.3, 57, 54_139_356, 54_431_388, 24_582_460_384),
    "v2-l": (1.0, 1.0, 480, 0.4, 79, 118_515_272, 119_027_848, 56_079_699_008),
    "v2-xl": (1.0, 1.0, 512, 0.4, 100, 208_119_808, 208_896_832, 93_353_451_520),
}
# Millions of parameters, and billions of multiply-accumulates, of the authors' READMEs.
# L is left out of the first: 119.5 there, against their own test's number above.
PUBLISHED_PARAMS = {
    **{"lite0": 4.7, "lite1": 5.4, "lite2": 6.1, "lite3": 8.2, "lite4": 13.0},
    **{"v2-b0": 7.1, "v2-b1": 8.1, "v2-b2": 10.1, "v2-b3": 14.4},
    **{"v2-s": 21.5, "v2-m": 54.1},
}
PUBLISHED_MACS = {
    **{"lite0": 0.407, "lite1": 0.631, "lite2": 0.899, "lite3": 1.44, "lite4": 2.64},
    **{"v2-b0": 0.72, "v2-b1": 1.2, "v2-b2": 1.7, "v2-b3": 3.0},
    **{"v2-s": 8.4, "v2-m": 24.7, "v2-l": 56.3},
}
each_row = pytest.mark.parametrize("short", ROWS)


def row(short):
    """The variant of a name that is short enough for a table."""
    return get_variant(f"efficientnet{'-' * short.startswith('lite')}{short}")


def test_every_row_is_in_the_table():
    names = {row(short).name for short in ROWS}
    starts = ("efficientnet-lite", "efficientnetv2")
    assert names == {name for name in variants.VARIANTS if name.startswith(starts)}


@each_row
def test_coefficients_and_costs(short):
    variant = row(short)
    cost = complexity.total(variant)
    assert (
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.resolution,
        variant.dropout_rate,
        len(scaling.block_specs(variant)),
        cost.trainable_params,
        cost.trainable_params + cost.non_trainable_params,
        cost.macs,
    ) == ROWS[short]


@pytest.mark.parametrize("short", PUBLISHED_PARAMS)
def test_parameters_are_those_of_the_authors(short):
    params = complexity.total(row(short)).trainable_params
    assert round(params / 1e6, 1) == PUBLISHED_PARAMS[short]


@pytest.mark.parametrize("short", PUBLISHED_MACS)
def test_multiply_accumulates_are_near_those_of_the_authors(short):
    cost = complexity.total(row(short))
    published = 1e9 * PUBLISHED_MACS[short]
    if short.startswith("lite"):
        # Theirs count what batch norm and activations do to a number, too.
        assert 2.5 < (published - cost.macs) / cost.activation_elements < 3.7
    else:
        assert published == pytest.approx(cost.macs, rel=0.006)


@each_row
def test_variables_are_what_is_counted(short):
    sizes = {True: 0, False: 0}
    for variable in variables(row(short)):
        size = 1
        for length in variable.shape:
            size *= length
        sizes[variable.trainable] += size
    assert (sizes[True], sizes[True] + sizes[False]) == ROWS[short][5:7]


@each_row
def test_normalisation_and_batch_norm(short):
    variant = row(short)
    found = variant.mean_rgb, variant.std_rgb, variant.batch_norm_momentum
    if short.startswith("lite"):
        expected = (127.0,) * 3, (128.0,) * 3, 0.99
    elif short.startswith("v2-b"):
        imagenet = get_variant("efficientnet-b0")
        expected = imagenet.mean_rgb, imagenet.std_rgb, 0.9
    else:
        expected = (128.0,) * 3, (128.0,) * 3, 0.9
    assert found == expected
    assert variant.batch_norm_epsilon == 1e-3


def test_the_ends_of_lite_are_not_scaled():
    deepest = row("lite4")
    assert scaling.stem_filters(deepest) == 32
    assert scaling.head_filters(deepest) == 1280
    stages = scaling.stage_of_block(deepest)
    assert [stages.count(n) for n in range(1, 8)] == [1, 4, 4, 6, 6, 8, 1]
    blocks = scaling.block_specs(deepest)
    assert (blocks[0].output_filters, blocks[-1].output_filters) == (24, 448)
    assert {block.activation for block in blocks} == {"relu6"}
    assert {block.se_filters for block in blocks} == {0}


def test_v2_rounds_to_the_nearest():
    found = [scaling.block_specs(row(f"v2-b{n}"))[0].output_filters for n in range(4)]
    assert found == [16, 16, 16, 16]  # of 19.2 in B3, which may lose a sixth
    kept = {n: scaling.block_specs(row(f"v2-b{n}"))[-1].output_filters for n in (2, 3)}
    assert kept == {2: 208, 3: 232}


def test_blocks_of_v2():
    blocks = scaling.block_specs(row("v2-s"))
    kinds = [(block.fused, block.project, block.se_filters > 0) for block in blocks]
    assert kinds[:3] == [(True, False, False)] * 2 + [(True, True, False)]
    assert kinds[10:] == [(False, True, True)] * 30
    first = blocks[0]
    assert (first.input_filters, first.expanded_filters, first.output_filters) == (
        *(24, 24, 24),
    )
    assert first.has_skip
    # A quarter of the channels that enter the block.
    assert [(b.input_filters, b.se_filters) for b in blocks[10:12]] == [
        *((64, 16), (128, 32))
    ]
