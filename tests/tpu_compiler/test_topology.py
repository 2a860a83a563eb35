import re

import pytest

from tpu_compiler.errors import CompilerError
from tpu_compiler.topology import GENERATIONS, Topology


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


@pytest.mark.parametrize("name", ["v5e:32x32", "v3:0x2", "v2:16x32"])
def test_a_size_that_nobody_sells_is_refused(name):
    with pytest.raises(CompilerError, match=re.escape(repr(name))):
        Topology.parse(name)


@pytest.mark.parametrize("name", GENERATIONS)
def test_peaks_follow_from_the_clock(name):
    """A device's matrix units do a whole number of operations a cycle."""
    one = GENERATIONS[name]
    units = one.peak_flops / one.clock_hz / (2 * 128 * 128)
    expected = {"v2": 1, "v3": 2, "v4": 8, "v5e": 4, "v5p": 8, "v6e": 16}[name]
    assert units == pytest.approx(expected, rel=0.03)
