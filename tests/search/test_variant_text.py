"""Networks as gin files and as rows: read back, they are the same."""

import dataclasses

import numpy as np
import pytest

from models import variants
from models.variants import VARIANTS, StageSpec, Variant, change
from search.networks.variant_text import variant_gin, variant_row
from tests.support.runs import bound

CHANGED = change(
    dataclasses.replace(
        VARIANTS["efficientnet-x-tpu-b3"],
        name="a 'quoted' name\nof “two” lines",
        width_coefficient=np.float64(1.7),
        se_coefficient=0.5,
        stages=VARIANTS["efficientnet-x-b0"].stages[:6],
    ),
    stages={4: {"fused": True, "space_to_batch": 2}, 5: {"se_ratio": 0}},
    blocks={3: {"activation": "gelu"}, 9: {"kernel_size": 3, "skip": False}},
)
ONE_STAGE = Variant(
    "one", 1.0, 2.0, 32, 0.0, 1, (StageSpec(1, 3, 2, 1, 8, "relu", fused=True),)
)
OTHERS = (CHANGED, ONE_STAGE)


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *OTHERS], ids=lambda v: v.name)
def test_a_row_is_the_network(variant):
    (read,) = eval(f"({variant_row(variant)})", {**vars(variants)})
    assert read == variant


def test_a_row_is_as_those_of_the_table():
    assert variant_row(VARIANTS["efficientnet-x-tpu-b3"]) == (
        'Variant("efficientnet-x-tpu-b3", 1.27, 1.62, 263, 0.3, 1, _X_STAGES),'
    )
    assert variant_row(ONE_STAGE).splitlines()[7:10] == [
        "    (",
        '        StageSpec(1, 3, 2, 1, 8, "relu", fused=True),',
        "    ),",
    ]


@pytest.mark.parametrize(
    "variant",
    [CHANGED, ONE_STAGE, VARIANTS["efficientnetv2-s"], VARIANTS["efficientnet-lite1"]],
    ids=lambda v: v.name,
)
def test_a_gin_file_replaces_a_recipe_s_network(variant, tmp_path):
    """Behind a recipe that sets every field that it can, and others' unscoped."""
    from train import config

    (tmp_path / "recipe.gin").write_text(
        "include 'gin_configs/runs/mnist_cpu.gin'\n"
        "from __gin__ import dynamic_registration\n"
        "from models import efficientnet_x\n"
        "from models import variants\n"
        "efficientnet_x.build_model.stages = {2: {'kernel_size': 7}}\n"
        "efficientnet_x.build_model.dropout_rate = 0.9\n"
        "variants.StageSpec.se_ratio = 0.125\n"
        "variants.Variant.stem_filters = 64\n"
    )
    (tmp_path / "network.gin").write_text(variant_gin(variant))
    files = [f"{tmp_path}/recipe.gin", f"{tmp_path}/network.gin"]
    built = bound(config.resolve(files, []).experiment.build_model)
    assert built["variant"] == variant
    own = ("width_coefficient", "depth_coefficient", "resolution", "dropout_rate")
    assert {built[name] for name in own} == {None}
    assert {built[n] for n in ("stages", "blocks", "batch_norm_epsilon")} == {None}
    # What belongs to the training is the recipe's.
    assert (built["num_classes"], built["batch_norm_momentum"]) == (10, 0.9)
