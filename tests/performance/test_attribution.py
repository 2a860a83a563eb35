import pytest

from models import variants
from models.variants import get_variant
from performance import devices
from performance.analysis import analyse
from performance.attribution import estimate
from performance.latency_estimates import network_latency
from performance.layers import layers
from tests.performance.made_up import changed, failed, report, short
from tests.support import tiny
from tpu_compiler import Compiler

PROGRAM = """HloModule inference

%fused_computation (p: f32[8]) -> f32[8] {
  %p = parameter(0)
  %c.0 = convolution(%p, %p) [network_1/block_1_1/expand_1/convolution]
  %b.0 = add(%c.0, %p) [network_1/block_1_1/expand_bn_1/add]
  ROOT %c.1 = convolution(%b.0, %p) [network_1/block_1_1/depthwise_1/depthwise]
}

%fused_computation.1 (q: f32[8]) -> f32[8] {
  %q = parameter(0)
  %c.2 = convolution(%q, %q) [network_1/head_conv_1/convolution]
  ROOT %b.2 = add(%c.2, %q) [network_1/head_bn_1/add]
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = parameter(0)
  %i.0 = copy(%x) [network_1/normalize_1/Cast] 7
  %i.1 = convert(%x) [network_1/block_1_1/expand_1/convolution/Cast] 20
  %i.2 = fusion(%i.1), calls=%fused_computation [network_1/block_1_1/depthwise_1/d] 300
  %i.3 = add(%i.2, %x) [network_1/block_1_1/squeeze_excite_1/mul] 4000
  %i.4 = copy(%i.3) 1
  %i.5 = copy(%i.4) [network_1/batch_to_space_2_1/Reshape] 50000
  ROOT %i.6 = fusion(%i.5), calls=%fused_computation.1 [network_1/head_bn_1/add] 600000
}
"""


def test_cycles_go_to_the_layer_of_the_root(tmp_path):
    variant = variants.change(
        short(stages=2, resolution=32),
        {2: {"num_repeat": 1}},
        {1: {"space_to_batch": 2}},
    )
    found = estimate(variant, report(tmp_path / "hlo.gz", PROGRAM))
    depthwise = ("block_1", "depthwise")
    assert found.cycles == {
        ("stem", ""): 7,
        depthwise: 320,  # with the expansion, and the cast of the expansion's weights
        ("block_1", ""): 4000,
        ("", ""): 1,
        ("block_1", "batch_to_space"): 50000,
        ("head", "conv"): 600000,  # though its batch norm gave the fusion its name
    }
    assert found.fused == {("block_1", "expand"): depthwise}
    assert found.seconds(depthwise) == 320 / 940e6
    assert found.seconds(("block_1", "expand")) is None


def test_no_estimate_of_what_does_not_compile():
    variant = get_variant("efficientnet-b0")
    with pytest.raises(ValueError, match="efficientnet-b0 has no estimate: too large"):
        estimate(variant, failed("out_of_memory", message="too large"))


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """One process for all networks, and empty caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with Compiler() as compiler:
            yield compiler


@pytest.mark.long
@pytest.mark.parametrize(
    "variant", [tiny.variant(), changed()], ids=["tiny", "changed"]
)
def test_estimates_of_the_compiler(variant, compiler):
    """Every layer is found again in what Keras and the compiler make of a network."""
    compiled = network_latency(variant, compiler, "v3", batch=2, dtype="bfloat16")
    found = estimate(variant, compiled)
    assert sum(found.cycles.values()) == compiled.cycles
    assert ("", "") not in found.cycles
    for layer in layers(variant):
        key = (layer.part, layer.name)
        assert (key in found.cycles) != (key in found.fused), key
    device = devices.find("tpu-v3")
    rows = analyse(variant, device, batch=2, estimate=found)
    for level in ("layer", "block", "network"):
        times = [row.estimated_seconds or 0 for row in rows if row.level == level]
        assert sum(times) * 1e3 == pytest.approx(compiled.milliseconds, rel=1e-12)
    assert 0 < (rows[-1].efficiency or 0) < 1
