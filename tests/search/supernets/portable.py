"""The space that both backends build a supernet of. Imports no framework."""

from search import spaces
from tests.search.supernets.space import base

CLASSES = 5


def space():
    """Each kind of alternative once, in two stages."""
    return spaces.blocks(
        base(stages=base().stages[:2]),
        {
            1: {"kernel_size": [3, 5], "expand_ratio": [1, 2], "se_ratio": [0, 0.25]},
            2: {
                "fused": [True, False],
                "space_to_batch": [1, 2],
                "output_filters": [8, 16],
                "activation": ["relu", "swish"],
                "num_repeat": [1, 2],
                "skip": [True, False],
            },
        },
        space_to_depth=["none", "reshuffle 1-2"],
    )
