"""Networks as vectors, and back."""

import random

import numpy as np

from search import spaces
from search.supernets.selection import Selection, is_size

SPACE = spaces.blocks(
    "efficientnet-x-b0",
    {
        2: {"kernel_size": [3, 5, 7], "se_ratio": [0, 0.25], "fused": [False, True]},
        3: {"output_filters_factor": [1.5, 0.5]},
    },
    when={"2.se_ratio": {"2.fused": [False]}},
)


def test_layout_of_the_vector():
    selection = Selection(SPACE)
    assert [choice.name for choice in SPACE.choices] == [
        "2.fused",
        "2.kernel_size",
        "2.se_ratio",
        "3.output_filters_factor",
    ]
    assert selection.size == 9
    assert selection.slices == (slice(0, 2), slice(2, 5), slice(5, 7), slice(7, 9))
    vector = selection.of((0, 2, 1, 0))
    assert vector.dtype == np.float32
    assert vector.tolist() == [1, 0, 0, 0, 1, 0, 1, 1, 0]


def test_networks_come_back():
    selection, rng = Selection(SPACE), random.Random(1)
    for _ in range(50):
        network = SPACE.sample(rng)
        vector = selection.of(network)
        assert vector.sum() == 4
        assert selection.network(vector) == network


def test_what_does_not_count_is_zero():
    selection = Selection(SPACE)
    vector = np.array([0.4, 0.6, 0.2, 0.3, 0.5, 0.1, 0.9, 0.5, 0.5], np.float32)
    assert selection.network(vector) == (1, 2, 0, 0)  # fused: se_ratio counts not
    assert selection.network(1 - vector) == (0, 0, 0, 0)


def test_warm_up_has_all_operations_and_the_largest_sizes():
    vector = Selection(SPACE).warm_up()
    third = np.float32(1 / 3)
    assert vector.tolist() == [0.5, 0.5, third, third, third, 0, 1, 1, 0]
    sizes = [choice.name for choice in SPACE.choices if is_size(choice)]
    assert sizes == ["2.se_ratio", "3.output_filters_factor"]
