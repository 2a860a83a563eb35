import dataclasses
import re

import pytest

from models import scaling, variants
from models.errors import ModelError
from models.variants import get_variant
from tests.support.golden import read_json

GOLDEN = read_json("models/variants.json")["variants"]
X_B0 = get_variant("efficientnet-x-b0")
X_B5_TIMM = get_variant("efficientnet-x-b5-timm")
FUSED_TWICE = {"expand_ratio": 2, "fused": True}
each_golden = pytest.mark.parametrize("name", GOLDEN)


@pytest.mark.parametrize(
    ("filters", "width", "rounded"),
    [
        (32, 1.0, 32),
        (32, 1.1, 32),
        (16, 0.1, 8),  # never below the divisor
        (24, 0.5, 16),  # halves round up
        (19, 1.0, 24),  # 16 would lose more than a tenth
        (40, 1.05, 40),
        (1280, 1.05, 1344),
    ],
)
def test_round_filters(filters, width, rounded):
    assert scaling.round_filters(filters, width) == rounded


@pytest.mark.parametrize(
    ("max_loss", "rounded"), [(0.0, 24), (0.16, 24), (0.17, 16), (1.0, 16)]
)
def test_what_rounding_may_lose(max_loss, rounded):
    """Of 19.2 channels, 16 are a sixth less."""
    assert scaling.round_filters(16, 1.2, max_loss) == rounded
    row = dataclasses.replace(X_B0, width_coefficient=1.2, max_width_loss=max_loss)
    assert scaling.block_specs(row)[0].output_filters == 4 * rounded
    row = dataclasses.replace(row, stem_filters=16, head_filters=16)
    assert (scaling.stem_filters(row), scaling.head_filters(row)) == (rounded,) * 2


def test_ends_that_are_not_scaled():
    row = dataclasses.replace(
        get_variant("efficientnet-x-b7"), stem_filters=20, scale_ends=False
    )
    assert (scaling.stem_filters(row), scaling.head_filters(row)) == (20, 1280)
    scaled = scaling.stage_of_block(get_variant("efficientnet-x-b7"))
    found = scaling.stage_of_block(row)
    assert [scaled.count(n) for n in range(1, 8)] == [4, 7, 7, 10, 10, 13, 4]
    assert [found.count(n) for n in range(1, 8)] == [1, 7, 7, 10, 10, 13, 1]
    single = dataclasses.replace(row, stages=row.stages[3:4])
    assert scaling.stage_of_block(single) == (1, 1, 1)  # is the first and the last


@pytest.mark.parametrize(
    ("num_repeat", "depth", "rounded"), [(1, 1.0, 1), (1, 1.1, 2), (4, 3.1, 13)]
)
def test_round_repeats(num_repeat, depth, rounded):
    assert scaling.round_repeats(num_repeat, depth) == rounded


@each_golden
def test_stem_and_head(name):
    variant, golden = get_variant(name), GOLDEN[name]
    assert scaling.stem_filters(variant) == golden["stem_filters"]
    assert scaling.head_filters(variant) == golden["head_filters"]


@each_golden
def test_every_field_of_every_block(name, golden_blocks):
    variant = get_variant(name)
    blocks, sizes = scaling.block_specs(variant), scaling.feature_sizes(variant)
    assert len(sizes) == len(blocks) + 1
    golden = golden_blocks[name]
    rows = [golden_row(i, block, sizes) for i, block in enumerate(blocks)]
    for row, expected in zip(rows, golden, strict=True):
        assert row == {key: expected[key] for key in row}
        assert set(expected) - set(row) == {"space2depth", "survival_prob_train"}
    assert [b.space_to_depth for b in blocks] == [
        "conv" if g["space2depth"] == 1 else "none" for g in golden
    ]
    beyond = [(b.space_to_batch, b.skip, b.padding) for b in blocks]
    assert set(beyond) == {(1, True, "same")}


def golden_row(i, block, sizes):
    """A block in the golden table's words."""
    return {
        "index": i,
        "kernel": block.kernel_size,
        "stride": block.strides,
        "expand": block.expand_ratio,
        "arg_in": block.expanded_filters / block.expand_ratio,
        "arg_out": block.output_filters,
        "tensor_in": block.input_filters,
        "tensor_out": block.output_filters,
        "expanded": block.expanded_filters,
        "fused": block.fused,
        "activation": block.activation,
        "se_filters": block.se_filters,
        "in_size": sizes[i],
        "out_size": sizes[i + 1],
        "skip": block.has_skip,
    }


@each_golden
def test_reductions(name):
    variant = get_variant(name)
    blocks, sizes = scaling.block_specs(variant), scaling.feature_sizes(variant)
    filters = [
        scaling.stem_filters(variant),
        *(block.output_filters for block in blocks),
    ]
    # An endpoint is the last tensor of its size.
    last = [i for i, block in enumerate(blocks) if block.reduction > 1]
    assert {
        f"reduction_{n}": [sizes[i], sizes[i], filters[i]]
        for n, i in enumerate([*last, len(blocks)], start=1)
    } == GOLDEN[name]["reductions"]


def test_stage_of_block():
    later = (4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7)
    assert scaling.stage_of_block(X_B0) == (1, 2, 2, 3, 3, *later)
    deeper = scaling.stage_of_block(get_variant("efficientnet-x-b1"))
    assert [deeper.count(stage) for stage in range(1, 8)] == [2, 3, 3, 4, 4, 5, 2]
    assert list(deeper) == sorted(deeper)


def test_timm_halves_only_the_first_kernel_of_a_space_to_depth_section():
    kernels = [block.kernel_size for block in scaling.block_specs(X_B5_TIMM)]
    assert kernels[:4] == [2, 3, 3, 3]
    reference = scaling.block_specs(get_variant("efficientnet-x-b5"))
    assert [block.kernel_size for block in reference[:4]] == [2, 2, 2, 3]


def test_timm_squeeze_and_excite():
    blocks = scaling.block_specs(X_B5_TIMM)
    # Block 3 leaves the section: 96 channels enter it, a quarter of them is 24.
    assert (blocks[3].input_filters, blocks[3].se_filters) == (96, 24)
    assert (blocks[0].input_filters, blocks[0].se_filters) == (48, 12)
    assert {block.padding for block in blocks} == {"symmetric"}


def test_timm_rounds_squeeze_and_excite():
    stage = variants.StageSpec(1, 3, 1, 6, 24, "relu", se_ratio=0.23)
    row = dataclasses.replace(X_B5_TIMM, width_coefficient=1, stages=(stage,))
    assert scaling.block_specs(row)[0].se_filters == 7  # of 7.36
    row = dataclasses.replace(row, se_coefficient=1.05)
    assert scaling.block_specs(row)[0].se_filters == 8  # of 7.73
    reference = dataclasses.replace(row, dialect="reference")
    assert scaling.block_specs(reference)[0].se_filters == 7


def test_no_squeeze_and_excite():
    plain = variants.change(X_B0, blocks={0: {"se_ratio": 0}, 5: {"se_ratio": 0.0}})
    without = [i for i, b in enumerate(scaling.block_specs(plain)) if not b.se_filters]
    assert without == [0, 5]


def test_reshuffle_differs_from_the_learned_one_in_nothing_else():
    moved = variants.change(X_B0, stages={1: {"space_to_depth": "reshuffle"}})
    first, *rest = scaling.block_specs(moved)
    learned, *same = scaling.block_specs(X_B0)
    assert first == dataclasses.replace(learned, space_to_depth="reshuffle")
    assert rest == same
    assert scaling.feature_sizes(moved) == scaling.feature_sizes(X_B0)


def test_no_space_to_depth():
    fields = {"space_to_depth": "none"}
    plain = variants.change(X_B0, stages={1: fields, 2: fields})
    first, second, *_ = scaling.block_specs(plain)
    assert (first.kernel_size, first.input_filters, first.output_filters) == (3, 32, 16)
    assert (second.strides, second.input_filters) == (2, 16)
    assert not first.has_expansion
    assert scaling.feature_sizes(plain)[:4] == (112, 112, 56, 56)


def test_skip_can_be_turned_off():
    plain = variants.change(X_B0, blocks={2: {"skip": False}})
    assert scaling.block_specs(X_B0)[2].has_skip
    assert not scaling.block_specs(plain)[2].has_skip


@pytest.mark.parametrize("form", ["none", "conv", "leave"])
def test_without_a_projection_the_expansion_is_the_output(form):
    """Inside a space-to-depth section, which has four times the channels, too."""
    alone = {"project": False, "fused": True, "expand_ratio": 1}
    first = {**alone, "space_to_depth": "none" if form == "none" else "conv"}
    second = {**alone, "space_to_depth": "leave" if form == "leave" else "none"}
    row = variants.change(X_B0, stages={1: first, 2: second})
    row = dataclasses.replace(row, stages=row.stages[:2])
    if form == "conv":  # one that stays inside
        row = variants.change(row, stages={2: {"strides": 1}})
    sizes = {
        (block.expanded_filters, block.output_filters)
        for block in scaling.block_specs(row)
    }
    assert (
        sizes
        == {
            "none": {(16, 16), (24, 24)},
            "conv": {(64, 64), (96, 96)},
            "leave": {(64, 64), (24, 24)},
        }[form]
    )


def test_a_change_of_one_block_is_not_judged_by_another_stage():
    """The first stage of V2 has no projection, and may not expand."""
    row = variants.change(get_variant("efficientnetv2-b0"), blocks={3: FUSED_TWICE})
    assert scaling.block_specs(row)[3].expanded_filters == 2 * 32
    with pytest.raises(ModelError, match="block 0: project = False needs fused"):
        scaling.block_specs(variants.change(row, stages={1: {"expand_ratio": 4}}))


@pytest.mark.parametrize("resolution", [1, 31])
def test_resolution_that_the_strides_use_up(resolution):
    small = dataclasses.replace(X_B0, resolution=resolution)
    message = (
        f"resolution {resolution} is too small for efficientnet-x-b0: its strides "
        "divide it by 32, so 32 is the least"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        scaling.block_specs(small)


def test_least_resolution():
    small = dataclasses.replace(X_B0, resolution=32)
    assert scaling.feature_sizes(small)[-1] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"blocks": {16: {"kernel_size": 5}}},
            "efficientnet-x-b0 has no block 16, only 0 to 15",
        ),
        (
            {"blocks": {-1: {"kernel_size": 5}}},
            "efficientnet-x-b0 has no block -1, only 0 to 15",
        ),
        (
            {"blocks": {5: {"num_repeat": 2}}},
            "block 5: num_repeat belongs to a stage; change stage 4",
        ),
        (
            {"blocks": {5: {"kernel": 5}}},
            "block 5: a stage has no field 'kernel'; did you mean kernel_size?",
        ),
        (
            {"blocks": {5: {"kernel_size": 0}}},
            "block 5: kernel_size = 0: it has to be a whole number from 1 to 255",
        ),
        (
            {"stages": {2: {"space_to_depth": "reshuffle"}}},
            "block 1 opens a space-to-depth section inside another",
        ),
        (
            {"blocks": {2: {"space_to_depth": "leave"}}},
            "block 2 leaves a space-to-depth section that no block before it opened",
        ),
        (
            {"stages": {1: {"space_to_depth": "none"}}},
            "block 1 leaves a space-to-depth section that no block before it opened",
        ),
        (
            {"blocks": {6: {"space_to_batch": 3}}},
            "block 6: space_to_batch 3 does not divide its 14x14 input; choose "
            "1 or 2 or 7, or another resolution",
        ),
        (
            {"blocks": {5: {"project": False, "fused": True}}},
            "block 5: project = False needs fused = True and expand_ratio = 1, not "
            "True and 6",
        ),
        (
            {"stages": {1: {"project": False}}},
            "block 0: project = False needs fused = True and expand_ratio = 1, not "
            "False and 1",
        ),
        (
            {"blocks": {5: {"project": "no"}}},
            "block 5: project = 'no': it has to be True or False",
        ),
        (  # parts of 7x7 pixels would have to be padded for the stride
            {"blocks": {5: {"space_to_batch": 4}}},
            "block 5: space_to_batch 4, together with its stride 2, does not divide "
            "its 28x28 input; choose 1 or 2 or 7, or another resolution",
        ),
    ],
)
def test_blocks_that_do_not_fit_together(changes, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        scaling.block_specs(variants.change(X_B0, **changes))
