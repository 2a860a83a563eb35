import ast
import dataclasses
import pathlib

import pytest

from models import reference_variables, variants
from models.reference_variables import VariableSpec
from models.variants import VARIANTS, get_variant


def test_every_variable_of_every_variant(golden_variables):
    assert set(golden_variables) <= set(VARIANTS)
    for name, golden in golden_variables.items():
        assert reference_variables.variables(get_variant(name)) == tuple(
            VariableSpec(variable, tuple(shape), trainable)
            for variable, shape, trainable in golden
        ), name


def test_classes_change_the_classifier_alone():
    variant = get_variant("efficientnet-x-b0")
    thousand, ten = (
        reference_variables.variables(variant),
        reference_variables.variables(variant, 10),
    )
    assert ten[:-2] == thousand[:-2]
    assert ten[-2:] == (
        VariableSpec("head/dense/kernel", (1280, 10), True),
        VariableSpec("head/dense/bias", (10,), True),
    )


def names(variant, block):
    start = f"blocks_{block}/"
    return [
        v.name.removeprefix(start)
        for v in reference_variables.variables(variant)
        if v.name.startswith(start)
    ]


def test_moved_pixels_have_no_variables():
    variant = get_variant("efficientnet-x-b0")
    moved = variants.change(variant, blocks={0: {"space_to_depth": "reshuffle"}})
    learned = names(variant, 0)
    assert names(moved, 0) == learned[5:]
    assert all(name.startswith("space2depth/") for name in learned[:5])


@pytest.mark.parametrize("fused", [False, True])
def test_no_squeeze_and_excite(fused):
    variant = get_variant("efficientnet-x-b0")
    changes = {6: {"se_ratio": 0.0, "fused": fused}}
    found = names(variants.change(variant, blocks=changes), 6)
    assert not any("se/" in name for name in found)
    assert ("depthwise_conv2d/depthwise_kernel" in found) != fused
    numbers = [name for name in found if name.endswith("/kernel")]
    assert numbers == ["conv2d/kernel", "conv2d_1/kernel"]


def test_no_projection():
    variant = get_variant("efficientnet-x-b0")
    alone = {"project": False, "fused": True, "expand_ratio": 1, "se_ratio": 0.25}
    found = names(variants.change(variant, blocks={6: alone}), 6)
    kernels = ["conv2d/kernel", "se/conv2d/kernel", "se/conv2d_1/kernel"]
    assert [name for name in found if name.endswith("kernel")] == kernels
    assert len([name for name in found if "normalization" in name]) == 4


def test_the_module_imports_no_framework():
    tree = ast.parse(pathlib.Path(reference_variables.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    roots = {name.name for node in imports for name in node.names} | set(froms)
    assert roots <= {
        "collections",
        "collections.abc",
        "dataclasses",
        "models",
        "models.scaling",
        "models.variants",
    }


def test_a_spec_is_a_value():
    spec = VariableSpec("head/dense/bias", (10,), True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
