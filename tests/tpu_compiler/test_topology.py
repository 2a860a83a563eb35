import re

import pytest

from common.accelerators import TPUS
from tpu_compiler.errors import CompilerError
from tpu_compiler.topology import SLICES, Topology


@pytest.mark.parametrize(
    ("name", "chips", "devices", "compiler_name"),
    [
        ("v3", 1, 1, "v3:1x1"),
        ("v3:1x1", 1, 2, "v3:1x1"),
        ("v3:2x2x1", 4, 8, "v3:2x2x1"),
        ("v3:4x4", 16, 32, "v3:4x4"),
        ("v2:16x16", 256, 512, "v2:16x16"),
        ("v4", 1, 1, "v4:1x1"),
        ("v4:2x2x1", 4, 4, "v4:2x2x1"),
        ("v5e:2x2", 4, 4, "v5e:2x2"),
        ("v5p:2x2x2", 8, 8, "v5p:2x2x2"),
        ("v6e:2x4", 8, 8, "v6e:2x4"),
        ("v6e:2x4x1", 8, 8, "v6e:2x4x1"),
        ("v4:12x12x24", 3456, 3456, "v4:12x12x24"),
        ("v5p:16x16x24", 6144, 6144, "v5p:16x16x24"),
    ],
)
def test_names(name, chips, devices, compiler_name):
    topology = Topology.parse(name)
    assert topology.num_chips == chips
    assert topology.num_devices == devices
    assert topology.compiler_name == compiler_name
    assert str(topology) == name


@pytest.mark.parametrize(
    "name", ["", "v1:2x2", "v3:", "v3:2", "v3:2x2x2x2", "v3:2x-2", " v3", "v3:2x2\n"]
)
def test_a_malformed_name_is_refused_with_those_known(name):
    with pytest.raises(CompilerError, match=r"known are v2, v3, v4, v5e, v5p, v6e"):
        Topology.parse(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("v5e:32x32", "v5e:16x16, v5e:8x16, v5e:8x8"),
        ("v2:16x32", "v2:16x16, v2:8x16, v2:8x8"),
        ("v3:0x2", "v3:1x1, v3:2x2, v3:4x4"),
        ("v3:1x2", "v3:1x1, v3:2x2, v3:4x4"),
        ("v3:3x3", "v3:4x4, v3:2x2, v3:4x8"),
        ("v3:2x4", "v3:2x2, v3:4x4, v3:4x8"),
        ("v3:2x2x2", "v3:2x2, v3:4x4, v3:4x8"),
        ("v5e:4x2", "v5e:2x4, v5e:2x2, v5e:4x4"),
        ("v4:4x4", "v4:2x2x4, v4:2x2x2, v4:2x4x4"),
        ("v4:4x4x1", "v4:2x2x4, v4:2x2x2, v4:2x4x4"),
        ("v4:4x4x2", "v4:2x4x4, v4:2x2x4, v4:4x4x4"),
        ("v5p:6x6x6", "v5p:4x4x12, v5p:4x8x8, v5p:4x4x16"),
        ("v5p:16x20x28", "v5p:16x16x24, v5p:12x16x32, v5p:8x24x32"),
    ],
)
def test_a_slice_that_nobody_sells_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(CompilerError, match=re.escape(repr(name))) as refused:
        Topology.parse(name)
    generation = name.partition(":")[0]
    expected = f"{generation} has no such slice; the nearest are {nearest}"
    assert str(refused.value).endswith(expected)


@pytest.mark.parametrize(
    ("generation", "chips"),
    [
        ("v2", [1, 4, 16, 32, 64, 128, 256]),
        ("v3", [1, 4, 16, 32, 64, 128, 256, 512, 1024]),
        ("v4", [1, 4, 8, 16, 32, 64, 128, 192, 256, 256]),  # and larger ones
        ("v5e", [1, 4, 8, 16, 32, 64, 128, 256]),
        ("v5p", [1, 4, 8, 16, 32, 64, 128, 192, 256, 256]),
        ("v6e", [1, 4, 8, 16, 32, 64, 128, 256]),
    ],
)
def test_all_slices_have_names_that_are_read(generation, chips):
    slices = [Topology(generation, s) for s in SLICES[generation]]
    assert [one.num_chips for one in slices][:10] == chips
    assert all(Topology.parse(str(one)) == one for one in slices)
    assert len(set(slices)) == len(slices)


def test_the_largest_slices():
    largest = {name: slices[-1] for name, slices in SLICES.items()}
    assert largest == {
        "v2": (16, 16),
        "v3": (32, 32),
        "v4": (16, 16, 16),
        "v5e": (16, 16),
        "v5p": (16, 16, 24),
        "v6e": (16, 16),
    }


@pytest.mark.parametrize(
    ("name", "rings"),
    [
        ("v2:16x16", (True, True)),
        ("v3:16x32", (False, True)),
        ("v3:4x4x1", (False, False, False)),
        ("v4:4x4x8", (True, True, True)),
        ("v4:2x4x4", (False, False, False)),  # of whole cubes only
        ("v5e:8x16", (False, True)),
        ("v5e", ()),
    ],
)
def test_rings(name, rings):
    assert Topology.parse(name).rings == rings


def test_a_single_device():
    assert Topology.parse("v3:4x4").one_device == Topology.parse("v3")
    assert Topology.parse("v3:4x4").device == "one core of a v3 chip"
    assert Topology.parse("v4").device == "one v4 chip"


def test_every_generation_has_slices():
    assert SLICES.keys() == TPUS.keys()
