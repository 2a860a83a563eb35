import dataclasses
import json

import pytest

from common.errors import UserError
from models.variants import VARIANTS, change, get_variant
from search.networks.variant_json import describe, restore

X_B0 = get_variant("efficientnet-x-b0")
OTHERS = {
    "scaled": dataclasses.replace(X_B0, width_coefficient=1.6, resolution=240),
    "stages": change(X_B0, {2: {"fused": False}, 7: {"num_repeat": 3}}),
    "blocks": change(X_B0, blocks={0: {"skip": False}, 3: {"kernel_size": 7}}),
    "fewer stages": dataclasses.replace(X_B0, stages=X_B0.stages[:3]),
    "colors": dataclasses.replace(X_B0, mean_rgb=(0.0, 1.5, 2.0)),
}


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *OTHERS.values()])
def test_a_network_is_restored(variant):
    text = json.dumps(describe(variant))
    assert restore(variant.name, json.loads(text)) == variant


def test_a_row_of_the_table_is_its_name():
    for name in ("efficientnet-x-b4", "efficientnetv2-s", "efficientnet-x-b3-timm"):
        assert describe(get_variant(name)) == {"base": name}


def test_what_differs_is_said():
    assert describe(OTHERS["scaled"]) == {
        "base": "efficientnet-x-b0",
        "fields": {"width_coefficient": 1.6, "resolution": 240},
    }
    assert describe(OTHERS["stages"])["stages"] == {
        "2": {"fused": False},
        "7": {"num_repeat": 3},
    }
    assert describe(OTHERS["blocks"])["block_changes"] == {
        "0": {"skip": False},
        "3": {"kernel_size": 7},
    }


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ({}, "KeyError"),
        ({"base": "efficientnet-b9"}, "unknown variant"),
        ({"base": "efficientnet-b0", "fields": {"depth": 2}}, "depth"),
        ({"base": "efficientnet-b0", "fields": {"resolution": -1}}, "resolution"),
        ({"base": "efficientnet-b0", "fields": ["x"]}, "describes no network"),
        ({"base": "efficientnet-b0", "fields": {"mean_rgb": 3}}, "no network"),
        ({"base": "efficientnet-b0", "stages": {"9": {}}}, "no stage 9"),
        ({"base": "efficientnet-b0", "stages": [{"depth": 1}]}, "no network"),
        ({"base": "efficientnet-b0", "stages": {"x": {}}}, "no network"),
        ({"base": "efficientnet-b0", "stages": 3}, "describes no network"),
        ([], "describes no network"),
    ],
)
def test_what_describes_no_network_is_a_line(description, error):
    with pytest.raises(UserError, match=error) as raised:
        restore("mine", description)
    assert str(raised.value).startswith("mine: ")
