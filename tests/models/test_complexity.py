import dataclasses
import time

import pytest

import models
from models import complexity, scaling, variants
from models.complexity import Cost
from models.errors import ModelError
from models.variants import get_variant
from tests.support.golden import read_json

GOLDEN = read_json("models/variants.json")["variants"]


@pytest.mark.parametrize("name", GOLDEN)
def test_totals_are_the_golden_ones(name):
    cost, golden = complexity.total(get_variant(name)), GOLDEN[name]
    assert cost.trainable_params == golden["trainable_params"]
    assert cost.non_trainable_params == golden["non_trainable_params"]
    assert cost.macs == golden["macs"]
    assert golden["macs_by_op"] == {
        "Conv2D": cost.conv_macs,
        "DepthwiseConv2dNative": cost.depthwise_macs,
        "MatMul": cost.dense_macs,
    }


@pytest.mark.parametrize("block_size", [1, 2])
def test_a_model_tells_what_it_costs(block_size):
    """As its variant does, at any resolution, whatever the form of its stem."""
    changes = {"width_coefficient": 0.5, "depth_coefficient": 0.5}
    variant = dataclasses.replace(get_variant("efficientnet-x-b0"), **changes)
    model = models.build_model(
        variant, num_classes=7, resolution=64, stem_block_size=block_size
    )
    for resolution in (64, 96):
        other = dataclasses.replace(variant, resolution=resolution)
        cost = complexity.of_model(model, resolution)
        assert cost == complexity.total(other, num_classes=7)


def test_every_variant_in_less_than_a_second():
    start = time.process_time()
    for name in GOLDEN:
        complexity.total(get_variant(name))
    assert time.process_time() - start < 1  # measured: 0.2


@pytest.mark.parametrize(
    ("name", "millions"),
    # "Activations (M)" of timm's model cards for efficientnet_x_b5.sw_r448_e450_in1k
    # and tf_efficientnet_b7.aa_in1k, which timm counts by running the model.
    [("efficientnet-x-b5-timm", 68.9), ("efficientnet-b7", 289.9)],
)
def test_activations_are_those_of_timms_model_cards(name, millions):
    cost = complexity.total(get_variant(name))
    assert round(cost.activation_elements / 1e6, 1) == millions


def test_activation_bytes():
    cost = Cost(activation_elements=10)
    assert cost.activation_bytes() == cost.activation_bytes("float16") == 20
    assert cost.activation_bytes("float32") == 40
    with pytest.raises(ModelError, match=r"bfloat16, float16, float32, not 'int8'"):
        cost.activation_bytes("int8")


def test_parts_add_up():
    variant = get_variant("efficientnet-x-b0")
    parts = dict(complexity.layer_costs(variant))
    blocks = [f"block_{i}" for i in range(16)]
    assert list(parts) == ["stem", *blocks, "head", "classifier"]
    assert sum(parts.values(), Cost()) == complexity.total(variant)


def test_number_of_classes():
    variant = get_variant("efficientnet-x-b0")
    assert complexity.total(variant).trainable_params == 7_584_104
    ten = complexity.total(variant, num_classes=10)
    assert ten.trainable_params == 7_584_104 - 990 * (1280 + 1)
    assert ten.dense_macs == 12_800
    with pytest.raises(ModelError, match="num_classes must be 1 or more, not 0"):
        complexity.total(variant, num_classes=0)


def test_changed_variant_by_hand():
    full = get_variant("efficientnet-x-b0")
    small = dataclasses.replace(full, stages=full.stages[:3], resolution=32)
    changed = variants.change(
        small,
        stages={
            1: {"space_to_depth": "reshuffle", "se_ratio": 0},
            2: {"num_repeat": 1, "expand_ratio": 1},
            3: {"num_repeat": 1, "fused": False},
        },
        blocks={2: {"space_to_batch": 2}},
    )
    assert dict(complexity.layer_costs(changed, num_classes=10)) == {
        "stem": Cost(  # 3x3, 3 -> 32 channels, writes 16x16
            trainable_params=27 * 32 + 2 * 32,
            non_trainable_params=2 * 32,
            conv_macs=16 * 16 * 27 * 32,
            activation_elements=16 * 16 * 32,
        ),
        "block_0": Cost(  # pixels moved: 8x8x128; 2x2 depthwise; 128 -> 4 * 16
            trainable_params=4 * 128 + 2 * 128 + 128 * 64 + 2 * 64,
            non_trainable_params=2 * 128 + 2 * 64,
            conv_macs=64 * 128 * 64,
            depthwise_macs=64 * 4 * 128,
            activation_elements=64 * 128 + 64 * 64,
        ),
        "block_1": Cost(  # fused 3x3 64 -> 16; SE 16 -> 16 -> 16; 16 -> 24
            trainable_params=9 * 64 * 16 + 32 + 2 * (16 * 16 + 16) + 16 * 24 + 48,
            non_trainable_params=32 + 48,
            conv_macs=64 * 9 * 64 * 16 + 2 * 16 * 16 + 64 * 16 * 24,
            activation_elements=64 * 16 + 2 * 16 + 64 * 24,
        ),
        # Four parts of 4x4, then 2x2: 24 -> 144, 5x5 depthwise with stride 2, a
        # squeeze-and-excite of 24 for each part, 144 -> 40.
        "block_2": Cost(
            trainable_params=(24 * 144 + 288)
            + (25 * 144 + 288)
            + (144 * 24 + 24 + 24 * 144 + 144)
            + (144 * 40 + 80),
            non_trainable_params=288 + 288 + 80,
            conv_macs=4 * (16 * 24 * 144 + 2 * 144 * 24 + 4 * 144 * 40),
            depthwise_macs=4 * 4 * 25 * 144,
            activation_elements=4 * (16 * 144 + 4 * 144 + 24 + 144 + 4 * 40),
        ),
        "head": Cost(  # 4x4
            trainable_params=40 * 1280 + 2 * 1280,
            non_trainable_params=2 * 1280,
            conv_macs=16 * 40 * 1280,
            activation_elements=16 * 1280,
        ),
        "classifier": Cost(
            trainable_params=1280 * 10 + 10,
            dense_macs=1280 * 10,
            activation_elements=10,
        ),
    }


BLOCK = scaling.BlockSpec(
    kernel_size=3,
    strides=2,
    expand_ratio=1,
    input_filters=8,
    expanded_filters=8,
    output_filters=16,
    se_filters=0,
    activation="relu",
    fused=False,
)


def test_no_projection():
    block = dataclasses.replace(
        BLOCK, fused=True, project=False, expanded_filters=16, se_filters=2
    )
    assert complexity.block_cost(block, 8) == Cost(  # 3x3 8 -> 16; SE 16 -> 2 -> 16
        trainable_params=9 * 8 * 16 + 32 + (16 * 2 + 2 + 2 * 16 + 16),
        non_trainable_params=32,
        conv_macs=16 * 9 * 8 * 16 + 2 * 16 * 2,
        activation_elements=16 * 16 + 2 + 16,
    )


def test_odd_size_rounds_up():
    cost = complexity.block_cost(BLOCK, 7)
    assert cost.depthwise_macs == 16 * 9 * 8
    assert cost.activation_elements == 16 * (8 + 16)


def test_learned_space_to_depth():
    folding = dataclasses.replace(
        BLOCK, space_to_depth="conv", expanded_filters=32, strides=1
    )
    moving = dataclasses.replace(folding, space_to_depth="reshuffle")
    learned = Cost(  # 2x2 with stride 2, 8 -> 32, writes 4x4
        trainable_params=4 * 8 * 32 + 2 * 32,
        non_trainable_params=2 * 32,
        conv_macs=16 * 4 * 8 * 32,
        activation_elements=16 * 32,
    )
    for size in (7, 8):
        assert complexity.block_cost(folding, size) == (
            complexity.block_cost(moving, size) + learned
        )


def test_expansion_where_the_ratio_is_one_but_the_channels_differ():
    leaving = dataclasses.replace(BLOCK, input_filters=32)
    assert complexity.block_cost(leaving, 8).trainable_params == (
        (32 * 8 + 16) + (9 * 8 + 16) + (8 * 16 + 32)
    )


def test_space_to_batch_changes_only_what_squeeze_and_excite_does():
    block = dataclasses.replace(BLOCK, se_filters=2)
    whole = complexity.block_cost(block, 12)
    parted = complexity.block_cost(dataclasses.replace(block, space_to_batch=3), 12)
    more = Cost(conv_macs=8 * 2 * 8 * 2, activation_elements=8 * (2 + 8))
    assert parted == whole + more


def test_space_to_batch_that_does_not_divide():
    block = dataclasses.replace(BLOCK, space_to_batch=3)
    with pytest.raises(ModelError, match="space_to_batch 3 does not divide the 8x8"):
        complexity.block_cost(block, 8)
