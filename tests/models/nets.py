"""Small networks that several tests build, in whatever backend they run."""

import dataclasses
from typing import Any

from models import variants

# Without noise, so that two builds can be compared.
QUIET: dict[str, Any] = {"survival_prob": 1.0, "dropout_rate": 0.0}

# Arguments of build_model that reach every layer of models/.
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "12 channels": {"stem_block_size": 2, "stem_reshuffle": "host"},
    "48 channels": {"stem_block_size": 4, "input_layout": "HWCN"},
    "folded": {"fold_batch_norm": True},
    "split gradients": {"split_gradients": True},
    "reshuffle": {"stages": {1: {"space_to_depth": "reshuffle"}}},
    "no projection": {"stages": {2: {"project": False, "expand_ratio": 1}}},
    "batch domain": {"stages": {3: {"space_to_batch": 2}}, "resolution": 64},
}


def tinier():
    """The least network with each kind of block and a skip."""
    entering, leaving, plain = tiny().stages
    leaving = dataclasses.replace(leaving, num_repeat=1)
    return dataclasses.replace(tiny(), stages=(entering, leaving, plain))


def tiny_v2():
    """One with the blocks of V2, those without projection too, and its normalisation.

    The colours differ, so that they cannot be confused.
    """
    full = variants.get_variant("efficientnetv2-s")
    stages = [full.stages[n] for n in (0, 1, 3)]
    return dataclasses.replace(
        full,
        name="tiny_v2",
        resolution=32,
        stages=tuple(dataclasses.replace(stage, num_repeat=2) for stage in stages),
        head_filters=64,
        mean_rgb=(128.0, 120.0, 100.0),
        std_rgb=(128.0, 60.0, 30.0),
    )


def tiny():
    """A variant with each kind of block and a skip, small enough to build at once."""
    full = variants.get_variant("efficientnet-x-b0")
    entering, leaving, _, plain, *_ = full.stages
    plain = dataclasses.replace(plain, num_repeat=2)
    return dataclasses.replace(
        full,
        name="tiny",
        resolution=32,
        stages=(entering, leaving, plain),
        head_filters=64,
    )
