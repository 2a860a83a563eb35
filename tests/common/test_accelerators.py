import pytest

from common.accelerators import A100, GPUS, H100, TPUS, V100, gpu_of_name, tpu_of_type


@pytest.mark.parametrize("name", TPUS)
def test_peaks_follow_from_the_clock(name):
    """A device's matrix units do a whole number of operations a cycle."""
    one = TPUS[name]
    units = one.peak_flops["bfloat16"] / one.clock_hz / (2 * 128 * 128)
    expected = {"v2": 1, "v3": 2, "v4": 8, "v5e": 4, "v5p": 8, "v6e": 16}[name]
    assert units == pytest.approx(expected, rel=0.03)  # clocks are published rounded


@pytest.mark.parametrize(
    ("name", "chips", "links", "published"),
    [
        ("v2", 256, 4, None),
        ("v3", 1024, 4, 340e12),
        ("v4", 4096, 6, 1.1e15),
        ("v5e", 256, 4, 51.2e12),
        ("v5p", 8960, 6, None),
        ("v6e", 256, 4, 102.4e12),
    ],
)
def test_links_of_a_pod_are_its_all_reduce_bandwidth(name, chips, links, published):
    """Two figures of the same page agree; of two generations there is only one."""
    link = TPUS[name].link_bytes_per_second
    if published is None:
        assert link == {"v2": 62e9, "v5p": 100e9}[name]
    else:
        assert link * links * chips == pytest.approx(published)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("v3-32", "v3"), ("v5litepod-16", "v5e"), ("v9-8", None), ("", None)],
)
def test_accelerator_types(kind, name):
    assert tpu_of_type(kind) is (name and TPUS[name])


@pytest.mark.parametrize(
    ("device", "gpu"),
    [
        ("Tesla V100-SXM2-16GB", V100),
        ("NVIDIA A100-SXM4-40GB", A100),
        ("NVIDIA H100 80GB HBM3", H100),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", GPUS[0]),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_first_pattern_found_counts(device, gpu):
    assert gpu_of_name(device) is gpu


def test_16_bits():
    """Of a V100 that is float16; of a part of a GPU nothing is known."""
    assert V100.peak_of_16_bits == 125e12
    assert H100.peak_of_16_bits == H100.peak_flops["bfloat16"] == 989e12
    assert GPUS[0].peak_of_16_bits is None
