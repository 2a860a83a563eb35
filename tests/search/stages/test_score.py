"""Scores of networks in a supernet: which images they are of."""

import pytest

from search.stages import score


@pytest.mark.parametrize(
    ("images", "size", "replicas", "found"),
    [
        (500, 100, 1, (100, 5)),
        (500, 128, 1, (128, 3)),  # 116 images are in no batch, for all networks alike
        (100, 128, 1, (100, 1)),
        (101, 128, 4, (100, 1)),
        (3, 128, 4, (4, 1)),  # padded: there is no other way
    ],
)
def test_batches_are_whole(images, size, replicas, found):
    assert score.whole_batches(images, size, replicas) == found
