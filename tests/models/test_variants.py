import dataclasses
import subprocess
import sys

import pytest

from models import variants
from models.variants import ModelError, get_variant


def test_every_variant_has_its_golden_row(golden_variants, golden_variables):
    assert set(variants.VARIANTS) == set(golden_variants) == set(golden_variables)


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_coefficients(name, golden_variants):
    variant, golden = get_variant(name), golden_variants[name]
    assert variant.name == name
    assert golden["config"] == {
        "width": variant.width_coefficient,
        "depth": variant.depth_coefficient,
        "resolution": variant.resolution,
        "dropout": variant.dropout_rate,
        "se_coefficient": variant.se_coefficient,
    }
    assert golden["stem_head_activation"] == variant.activation


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("efficientnet-x-b9", "efficientnet-x-b0 or efficientnet-x-b1"),
        ("EfficientNet-X-B0", "efficientnet-x-b0"),
        ("efficientnet-x-tpu-b", "efficientnet-x-tpu-b1"),
    ],
)
def test_unknown_name_proposes_the_nearest(name, proposed):
    with pytest.raises(ModelError) as error:
        get_variant(name)
    message = str(error.value)
    assert f"unknown variant {name!r}: did you mean " in message
    assert proposed in message.split("did you mean")[1]
    assert "list(models.VARIANTS)" in message
    assert "\n" not in message


def test_unknown_name_near_nothing():
    with pytest.raises(ModelError, match=r"^unknown variant 'vgg': list\("):
        get_variant("vgg")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width_coefficient", 0),
        ("width_coefficient", float("nan")),
        ("depth_coefficient", -1.0),
        ("depth_coefficient", float("inf")),
        ("resolution", 31),
        ("resolution", 224.0),
        ("dropout_rate", 1.0),
        ("dropout_rate", -0.1),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ModelError, match=f"{field} must be .*not {value}"):
        dataclasses.replace(get_variant("efficientnet-x-b0"), **{field: value})


def test_tables_need_no_framework():
    program = (
        "import sys; from models import scaling, variants;"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
