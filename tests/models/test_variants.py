import dataclasses
import math
import re
import subprocess
import sys

import pytest

from common.checks import shown
from models import scaling, variants
from models.errors import ModelError
from models.variants import change, get_variant

X_B0 = get_variant("efficientnet-x-b0")


def test_every_variant_has_its_golden_row(golden_variants, golden_variables):
    timms = {f"efficientnet-{name}-timm" for name in ("x-b3", "x-b5", "h-b5")}
    assert timms <= set(variants.VARIANTS)
    counted = {n for n in variants.VARIANTS if "lite" in n or "v2" in n}
    assert len(counted) == 13  # of test_lite_and_v2
    ours = {f"efficientnet-x-v5e-b{n}" for n in range(1, 6)}  # of test_scaling
    assert set(variants.VARIANTS) - timms - counted - ours == set(golden_variants)
    assert set(golden_variants) == set(golden_variables)
    assert len(golden_variants) == 38


def test_coefficients(golden_variants):
    for name, golden in golden_variants.items():
        variant = get_variant(name)
        assert variant.name == name
        coefficients = {
            "width": variant.width_coefficient,
            "depth": variant.depth_coefficient,
            "resolution": variant.resolution,
            "dropout": variant.dropout_rate,
            "se_coefficient": variant.se_coefficient,
        }
        # The baseline's table has no se_coefficient.
        assert golden["config"] == {key: coefficients[key] for key in golden["config"]}
        assert coefficients["se_coefficient"] == golden["config"].get(
            "se_coefficient", 1
        )
        assert golden["stem_head_activation"] == variant.activation
        assert (variant.dialect, variant.batch_norm_epsilon) == ("reference", 1e-3)


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("efficientnet-x-b9", "efficientnet-x-b0 or efficientnet-x-b1"),
        ("EfficientNet-X-B0", "efficientnet-x-b0"),
        ("efficientnet-x-tpu-b", "efficientnet-x-tpu-b0"),
    ],
)
def test_unknown_name_proposes_the_nearest(name, proposed):
    with pytest.raises(ModelError) as error:
        get_variant(name)
    message = str(error.value)
    assert message.startswith(f"unknown variant {name!r}: did you mean {proposed}")
    assert message.endswith("? `python -m models.catalogue` lists all names")
    assert "\n" not in message


def test_unknown_name_near_nothing():
    with pytest.raises(ModelError, match=r"^unknown variant 'vgg': `python -m models"):
        get_variant("vgg")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width_coefficient", 0),
        ("width_coefficient", float("nan")),
        ("depth_coefficient", -1.0),
        ("depth_coefficient", float("inf")),
        ("se_coefficient", 0),
        ("resolution", 0),
        ("resolution", 224.0),
        ("dropout_rate", 1.0),
        ("dropout_rate", -0.1),
        ("batch_norm_momentum", 1),
        ("batch_norm_momentum", float("nan")),
        ("max_width_loss", 1.5),
        ("max_width_loss", True),
        ("scale_ends", 0),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ModelError, match=f"^{field} = {value}: it has to be "):
        dataclasses.replace(X_B0, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mean_rgb", 127.5, "three numbers up to 1,000,000"),
        ("mean_rgb", (0, 0), "three numbers up to 1,000,000"),
        ("mean_rgb", (0, 0, None), "three numbers up to 1,000,000"),
        ("mean_rgb", (0, 0, math.inf), "three numbers up to 1,000,000"),
        ("std_rgb", (1, 1, 0), "three numbers above 0 and up to 1,000,000"),
        ("std_rgb", (1, 1, math.nan), "three numbers above 0 and up to 1,000,000"),
    ],
)
def test_colours_that_are_none(field, value, message):
    message = f"{field} = {value}: it has to be {message}"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(X_B0, **{field: value})


def test_no_stages():
    with pytest.raises(
        ModelError, match=r"stages = \(\): it has to be a list of one StageSpec"
    ):
        dataclasses.replace(X_B0, stages=())


def test_change_counts_stages_from_one_and_blocks_from_zero():
    changed = change(
        X_B0,
        stages={2: {"kernel_size": 7}, 7: {"num_repeat": 3}},
        blocks={0: {"kernel_size": 5}},
    )
    kernels = [block.kernel_size for block in scaling.block_specs(changed)]
    assert kernels == [3, 7, 7, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3, 3, 3]
    assert changed.name == "efficientnet-x-b0"


def test_change_leaves_the_original_as_it_is():
    before = dataclasses.replace(X_B0)
    once = change(X_B0, stages={1: {"fused": True}}, blocks={1: {"kernel_size": 7}})
    before_twice = dataclasses.replace(once)
    change(once, stages={1: {"kernel_size": 9}}, blocks={1: {"skip": False}})
    assert before == X_B0 == variants.VARIANTS["efficientnet-x-b0"]
    assert once == before_twice
    assert once.block_changes == ((1, (("kernel_size", 7),)),)
    assert len({X_B0, once, before_twice}) == 2


def test_changes_of_the_same_block_add_up():
    once = change(X_B0, blocks={6: {"kernel_size": 7}, 7: {"fused": True}})
    twice = change(once, blocks={6: {"skip": False}, 7: {"fused": False}})
    blocks = scaling.block_specs(twice)
    assert (blocks[6].kernel_size, blocks[6].skip) == (7, False)
    assert not blocks[7].fused


def test_a_change_of_a_block_wins_over_its_stage():
    changed = change(
        X_B0, stages={4: {"activation": "swish"}}, blocks={6: {"activation": "gelu"}}
    )
    activations = [block.activation for block in scaling.block_specs(changed)[5:8]]
    assert activations == ["swish", "gelu", "swish"]


def test_change_of_nothing():
    assert change(X_B0) == change(X_B0, stages={}, blocks={}) == X_B0


@pytest.mark.parametrize("number", [0, 8, -1])
def test_change_of_an_unknown_stage(number):
    message = f"^efficientnet-x-b0 has no stage {number!r}, only 1 to 7$"
    with pytest.raises(ModelError, match=message):
        change(X_B0, stages={number: {"kernel_size": 5}})


def test_change_of_an_unknown_field():
    with pytest.raises(ModelError) as error:
        change(X_B0, stages={2: {"kernel": 5}})
    assert str(error.value) == (
        "stage 2: a stage has no field 'kernel'; did you mean kernel_size?"
    )
    with pytest.raises(ModelError, match=r"no field 'xyz'; num_repeat, kernel_size, "):
        change(X_B0, stages={2: {"xyz": 5}})
    # Scaling owns it: what enters a block is what the block before it made.
    with pytest.raises(ModelError, match="no field 'input_filters'"):
        change(X_B0, stages={2: {"input_filters": 16}})


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        *(
            (field, value, f"a whole number from 1 to {most:,}")
            for field, most in (
                ("num_repeat", 1000),
                ("kernel_size", 255),
                ("strides", 64),
                ("expand_ratio", 256),
                ("output_filters", 65536),
                ("space_to_batch", 64),
            )
            for value in (0, -1, True, 2.5, "3", None, most + 1, 10**400)
        ),
        *(
            ("se_ratio", value, "a number from 0 to 64")
            for value in (-0.1, math.nan, math.inf, True, "0.25", 65, 10**400)
        ),
        ("space_to_depth", True, "'none', 'conv', 'reshuffle' or 'leave'"),
        ("space_to_depth", "fold", "'none', 'conv', 'reshuffle' or 'leave'"),
        ("activation", None, "a text in quotes"),
        ("activation", ["relu"], "a text in quotes"),
        ("fused", 1, "True or False"),
        ("skip", None, "True or False"),
    ],
)
def test_change_to_a_value_out_of_range(field, value, wanted):
    message = f"stage 3: {field} = {shown(value)}: it has to be {wanted}"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}(; write .*)?$"):
        change(X_B0, stages={3: {field: value}})


def test_tables_need_no_framework():
    program = (
        "import sys; from models import catalogue, complexity, scaling, variants;"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
