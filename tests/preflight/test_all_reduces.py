"""Our estimate of all-reduces against values worked out by hand."""

import pytest

from preflight import all_reduces
from tpu_compiler import Topology
from tpu_compiler.costs import Collective


def milliseconds(topology, group_size, size, runs=1):
    one = Collective("all-reduce", runs, size, group_size, runs=runs, run_bytes=size)
    (found,) = all_reduces.estimate([one], Topology.parse(topology))
    assert (found.group_size, found.runs, found.bytes) == (group_size, runs, size)
    return found.milliseconds


# 100 MB over all replicas: hops, links of a chip that has the fewest, bytes/s of one.
V3, V4 = 340e12 / 4096, 1.1e15 / 24576
SLICES = [
    ("v3:2x2", 4, 1 + 1, 2, V3),  # a mesh: four corners
    ("v3:4x4", 16, 3 + 3, 2, V3),
    ("v3:16x32", 512, 15 + 16, 1 + 2, V3),  # a ring along one side
    ("v3:32x32", 1024, 16 + 16, 4, V3),
    ("v2:16x16", 256, 8 + 8, 4, 62e9),
    ("v4:2x2x1", 4, 1 + 1, 2, V4),
    ("v4:2x4x4", 32, 1 + 3 + 3, 3, V4),  # no whole cubes, no ring
    ("v4:4x4x8", 128, 2 + 2 + 4, 6, V4),
    ("v5p:4x4x4", 64, 2 + 2 + 2, 6, 100e9),
    ("v5e:2x4", 8, 1 + 3, 2, 50e9),
    ("v5e:8x16", 128, 7 + 8, 1 + 2, 50e9),
    ("v5e:16x16", 256, 8 + 8, 4, 50e9),
    ("v6e:16x16", 256, 8 + 8, 4, 100e9),
]


@pytest.mark.parametrize(("topology", "chips", "hops", "links", "each"), SLICES)
def test_all_replicas_of_a_slice(topology, chips, hops, links, each):
    replicas = Topology.parse(topology).num_devices
    sent = 1e8 * (chips - 1) / chips
    seconds = 2 * (hops * 1e-6 + sent / (links * each))
    found = milliseconds(topology, replicas, 100_000_000)
    assert found == pytest.approx(1e3 * seconds)


def test_a_figure_by_hand():
    """93.75 MB over two links of 83 GB/s and six hops, twice."""
    assert milliseconds("v3:4x4", 32, 100_000_000) == pytest.approx(1.14141, abs=1e-5)


@pytest.mark.parametrize(
    ("topology", "group_size", "hops"),
    [
        ("v3:16x32", 8, 1 + 1),  # four chips: a host
        ("v3:16x32", 4, 1),
        ("v3:16x32", 16, 3 + 1),  # two hosts, one beside the other
        ("v3:16x32", 128, 15 + 3),  # 64 chips: two rows of hosts
        ("v5e:8x16", 16, 7 + 1),
        ("v5e:16x16", 32, 8 + 1),  # its 16 chips along a side are a ring
        ("v4:4x4x8", 8, 2 + 1),
        ("v4:4x4x8", 16, 2 + 2),
    ],
)
def test_batch_norm_over_neighbours_is_hops(topology, group_size, hops):
    """234 of a byte each: to send these takes next to nothing."""
    found = milliseconds(topology, group_size, 234, runs=234)
    assert found == pytest.approx(2 * 234 * hops * 1e-3, rel=1e-4)


@pytest.mark.parametrize(("topology", "group_size"), [("v3:4x4", 2), ("v5e", 1)])
def test_within_a_chip_no_link_is_needed(topology, group_size):
    assert milliseconds(topology, group_size, 10**9) == 0


def test_groups_and_rounds_of_a_loop_add_up():
    of = Topology.parse("v3:4x4")
    rows = [
        Collective("all-gather", 1, 10**6, 32, runs=1, run_bytes=10**6),
        Collective("all-reduce", 2, 100, 8, runs=8, run_bytes=400),
        Collective("all-reduce", 1, 10**6, 32, runs=1, run_bytes=10**6),
    ]
    small, large = all_reduces.estimate(rows, of)
    assert (small.group_size, small.runs, small.bytes) == (8, 8, 400)
    assert small.milliseconds == milliseconds("v3:4x4", 8, 400, runs=8)
    assert large.milliseconds == milliseconds("v3:4x4", 32, 10**6)
    assert all_reduces.estimate([], of) == ()
