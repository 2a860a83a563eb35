"""Blocks, channels and pixels of a network over its base's."""

import dataclasses

import pytest

from models import scaling
from models.variants import VARIANTS, change
from search.accuracies import network_size

B0 = VARIANTS["efficientnet-x-b0"]


def size(name, base=B0):
    return network_size.relative_size(VARIANTS[name], base)


@pytest.mark.parametrize(
    "name", [n for n in VARIANTS if n.startswith("efficientnet-x")]
)
def test_sizes_of_the_published_rows(name):
    variant = VARIANTS[name]
    depth, width, resolution = size(name)
    assert depth == len(scaling.block_specs(variant)) / 16
    # Of seven roundings to multiples of 8 the mean is left: the worst is b1's 1.05.
    assert width == pytest.approx(variant.width_coefficient, rel=0.025)
    assert resolution == variant.resolution / 224


def test_the_base_is_one():
    assert size("efficientnet-x-b0") == (1, 1, 1)


def test_equal_networks_have_equal_sizes():
    one = dataclasses.replace(B0, width_coefficient=1.1, depth_coefficient=1.1)
    other = dataclasses.replace(B0, width_coefficient=1.1, depth_coefficient=1.25)
    assert scaling.block_specs(one) == scaling.block_specs(other)
    sizes = {network_size.relative_size(v, B0) for v in (one, other)}
    assert len(sizes) == 1


def test_channels_of_a_section_count_as_without_it():
    plain = change(
        B0, stages={1: {"space_to_depth": "none"}, 2: {"space_to_depth": "none"}}
    )
    assert network_size.relative_size(plain, B0) == (1, 1, 1)


def test_a_wider_stage_counts_by_its_channels():
    wider = change(B0, stages={6: {"output_filters": 384}})
    _, width, _ = network_size.relative_size(wider, B0)
    channels = 16 + 2 * 24 + 2 * 40 + 3 * 80 + 3 * 112 + 4 * 192 + 320
    assert width == pytest.approx(2 ** (4 * 192 / channels))


def test_a_change_of_one_block_counts():
    wider = change(B0, blocks={13: {"output_filters": 384}})
    _, width, _ = network_size.relative_size(wider, B0)
    channels = 16 + 2 * 24 + 2 * 40 + 3 * 80 + 3 * 112 + 4 * 192 + 320
    assert width == pytest.approx(2 ** (192 / channels))  # a quarter of the stage


def test_another_number_of_stages():
    base = VARIANTS["efficientnetv2-b0"]
    depth, width, _ = size("efficientnetv2-m", base)
    assert depth == 57 / 21
    # M over B0: 24/16, 48/32, 80/48, 160 and 176 over 96 and 112, 304 and 512 over 192.
    assert 1.5 < width < 2.1
    assert size("efficientnetv2-b0", base) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "unseen"),
    [
        ({}, []),
        ({3: {"num_repeat": 4, "output_filters": 48}}, []),
        ({3: {"kernel_size": 3, "fused": False}}, ["kernel_size", "fused"]),
        ({7: {"activation": "swish"}}, ["activation"]),
    ],
)
def test_what_a_size_does_not_tell(changes, unseen):
    assert network_size.unseen(change(B0, stages=changes), B0) == unseen


def test_what_a_size_does_not_tell_of_blocks_and_ends():
    assert network_size.unseen(change(B0, blocks={9: {"se_ratio": 0}}), B0) == [
        "se_ratio"
    ]
    ends = dataclasses.replace(B0, activation="swish")
    assert network_size.unseen(ends, B0) == ["activation"]
    assert network_size.unseen(VARIANTS["efficientnetv2-b0"], B0) == ["stages"]
