"""The tables say of every network what `block_specs` says."""

import random

import pytest

from models.scaling import block_specs, stage_of_block
from search import spaces
from search.supernets.counts import plan
from search.supernets.fields import Fields
from tests.search.supernets.space import base, rich_space


def entry(table, network):
    """What a table says of a network whose choices all count."""
    return table.entries[tuple(network[axis.place] for axis in table.axes)].item()


def said_of(slot, network, spec):
    """What the tables say of a block, and what it has."""
    of_kind = slot.expanded[spec.fused], slot.passing[spec.fused]
    expanded, passing = (entry(table, network) for table in of_kind)
    said = {
        "kernel_size": entry(slot.kernel_size, network),
        "space_to_batch": entry(slot.space_to_batch, network),
        "folded": entry(slot.folded, network),
        "expanded": expanded or passing * slot.copies,
        "se_filters": entry(slot.se_filters, network),
        "output_filters": entry(slot.output_filters, network),
        "has_skip": entry(slot.has_skip, network),
    }
    has = {
        "kernel_size": spec.kernel_size,
        "space_to_batch": spec.space_to_batch,
        "folded": spec.space_to_depth_filters,
        "expanded": spec.expanded_filters,
        "se_filters": spec.se_filters,
        "output_filters": spec.output_filters,
        "has_skip": spec.has_skip,
    }
    assert (expanded > 0) == spec.has_expansion
    return said, has


@pytest.mark.parametrize(
    "space",
    [
        rich_space(conditional=False),
        rich_space(base(dialect="timm", depth_coefficient=1.6), conditional=False),
        spaces.paper("efficientnet-x-b0"),
        spaces.paper("efficientnet-x-tpu-b2"),
    ],
    ids=lambda space: space.base.name,
)
def test_every_block_of_random_networks(space):
    planned = plan(Fields(space), space.name)
    rng = random.Random(3)
    for _ in range(20):
        network = space.sample(rng)
        variant = space.build(network)
        stages = stage_of_block(variant)
        form = [stage.space_to_depth for stage in variant.stages]
        slots = [slot for _, slot in planned.chains(form)]
        present = [slot for slot in slots if entry(slot.present, network)]
        specs = block_specs(variant)
        assert [slot.stage for slot in present] == list(stages)
        for slot, spec in zip(present, specs, strict=True):
            said, has = said_of(slot, network, spec)
            assert said == has, space.encode(network)
            repeats = [entry(table, network) for table in slot.repeats]
            assert repeats == [stages.count(i + 1) for i in range(len(repeats))]


def test_tables_have_only_what_they_depend_on():
    (first, second, third, *_), _ = _slots(rich_space(conditional=False))
    assert [axis.field for axis in first.output_filters.axes] == ["output_filters"]
    assert first.has_skip.axes != ()  # 8 channels enter: one of two numbers is equal
    assert [axis.field for axis in second.expanded[False].axes] == [
        "expand_ratio",
        "output_filters",
    ]
    assert second.has_skip.axes == ()  # its stride is 2
    assert third.kernel_size.axes == ()


def _slots(space):
    planned = plan(Fields(space), space.name)
    slots = [slot for _, slot in planned.chains(("none",) * 3)]
    return slots, planned


def test_parts_that_would_not_be_equal_are_none():
    space = spaces.blocks(base(resolution=36), {3: {"space_to_batch": [1, 2, 3]}})
    slots, _ = _slots(space)
    assert slots[-1].size == 5  # and 9 before
    assert slots[-1].space_to_batch.entries.tolist() == [1, 1, 1]
