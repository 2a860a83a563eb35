"""A small space with all kinds of choices. Imports no framework."""

import dataclasses
from typing import Any

from models.variants import StageSpec, get_variant
from search import spaces
from search.supernets.selection import Selection


def base(**fields: Any):
    """A network of 32 px whose widths are not multiples of one another."""
    stages = (
        StageSpec(1, 3, 1, 1, 8, "relu"),
        StageSpec(1, 3, 2, 2, 16, "swish"),
        StageSpec(2, 5, 2, 2, 24, "relu"),
    )
    variant = dataclasses.replace(
        get_variant("efficientnet-x-b0"),
        name="base",
        resolution=32,
        stages=stages,
        stem_filters=8,
        head_filters=16,
        dropout_rate=0.0,
    )
    return dataclasses.replace(variant, **fields)


def rich_space(variant=None, conditional=True):
    """All kinds of choices, conditional ones, sections that move in both ways."""
    return spaces.blocks(
        variant or base(),
        {
            1: {
                "kernel_size": [3, 5],
                "expand_ratio": [1, 2],
                "output_filters": [16, 8],
                "fused": [False, True],
            },
            2: {
                "kernel_size": [7, 3, 5],
                "expand_ratio": [1, 2, 4],
                "se_ratio": [0, 0.25, 0.5],
                "output_filters_factor": [0.5, 1, 1.5],
                "activation": ["relu", "swish"],
            },
            3: {
                "num_repeat_change": [-1, 0, 1],
                "fused": [True, False],
                "space_to_batch": [1, 2],
                "skip": [True, False],
                "output_filters": [16, 24],
                "activation": ["swish", "hard_swish", "sigmoid"],
            },
        },
        space_to_depth=["none", "conv 1-2", "reshuffle 1-2"],
        when={"3.space_to_batch": {"3.fused": [False]}} if conditional else None,
    )


def corner(space, best):
    """The network with the smallest, or the largest, of all that are numbers."""
    network = []
    for choice in space.choices:
        numbers = [v for v in choice.values if not isinstance(v, str)]
        value = best(numbers) if numbers else best(choice.values)
        network.append(choice.values.index(value))
    return Selection(space).network(Selection(space).of(tuple(network)))
