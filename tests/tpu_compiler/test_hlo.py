"""The text of an optimised module: its costs and its collectives."""

import pytest

from tpu_compiler import hlo
from tpu_compiler.costs import Collective, costs

HEADER = """\
HloModule step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

FileNames
1 "layers.py"
2 "heads.py"

FunctionNames
1 "stem"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=0 end_column=0}
2 {file_name_id=2 function_name_id=1 line=12 end_line=12 column=0 end_column=0}

StackFrames
1 {file_location_id=2 parent_frame_id=1}

"""

STRAIGHT = (
    HEADER
    + """\
%fused (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %t = f32[8,128]{1,0:T(8,128)} tanh(%a), backend_config={"estimated_cycles":"9"}
}

ENTRY %main.3 (x.1: f32[8,128]) -> (f32[8,128], /*index=1*/f32[8,128]) {
  %x.1 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %c = f32[]{:T(256)} constant(0.5)
  %scalar = f32[]{:T(256)} add(%c, %c), metadata={op_name="stem/one"}
  %fusion.1 = f32[8,128]{1,0:T(8,128)(2,1)} fusion(%x.1), kind=kLoop, calls=%fused, \
metadata={op_name="stem/conv(1)" stack_frame_id=1}, \
backend_config={"window_config":{"estimated_cycles":"1200","x":["4"]}}
  %copy-start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0}, u32[]{:S(2)}) \
copy-start(%fusion.1)
  %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %room = f32[8,128]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %add.2 = f32[8,128]{1,0:T(8,128)} add(%copy-done, %x.1), \
metadata={op_name="head/add" source_file="own.py" source_line=3}, \
backend_config={"estimated_cycles":"300"}
  ROOT %tuple = (f32[8,128]{1,0:T(8,128)}, /*index=1*/f32[8,128]{1,0:T(8,128)}) \
tuple(%fusion.1, %add.2)
}
"""
)


def test_a_straight_program():
    found = costs(STRAIGHT, num_replicas=1)
    assert found.cycles == 1500  # not the 9 inside the fusion
    assert found.without_estimate == {"copy": 1}  # a pair, but neither numbers nor room
    assert found.unknown_loops == ()
    by_name = {one.name: one for one in found.instructions}
    assert list(by_name) == ["scalar", "fusion.1", "copy-start", "copy-done", "add.2"]
    fusion, add = by_name["fusion.1"], by_name["add.2"]
    assert (fusion.opcode, fusion.shape) == ("fusion", "f32[8,128]{1,0:T(8,128)(2,1)}")
    assert (fusion.cycles, fusion.repeats, fusion.total_cycles) == (1200, 1, 1200)
    assert fusion.op_name == "stem/conv(1)"
    assert (fusion.source_file, fusion.source_line) == ("heads.py", 12)
    assert (add.source_file, add.source_line) == ("own.py", 3)
    assert by_name["copy-done"].cycles is None
    size = 4 * 8 * 128
    assert fusion.hbm_bytes == 2 * size
    assert by_name["copy-start"].hbm_bytes == size
    assert by_name["copy-done"].hbm_bytes == 0  # it lies in another memory
    assert add.hbm_bytes == 2 * size
    assert found.hbm_bytes == 5 * size + 3 * 4


# As libtpu 0.0.52 writes them for v4 and v5e, and XLA's documentation for collectives.
PAIRS = """\
HloModule pairs

ENTRY %main (x: f32[16,128], y: bf16[64]) -> f32[16,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %y = bf16[64]{0:T(512)} parameter(1)
  %copy-start = (f32[16,128]{1,0:T(8,128)S(1)}, f32[16,128]{1,0:T(8,128)}, \
u32[]{:S(2)}) copy-start(%x), cross_program_prefetch_index=0
  %slice-start = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, \
s32[]{:S(2)}) slice-start(%x), slice={[0:8], [0:128]}
  %all-reduce-start = (f32[16,128]{1,0:T(8,128)}, bf16[64]{0:T(512)}) \
all-reduce-start(%x, %y), replica_groups={}, to_apply=%sum
  %collective-permute-start = (f32[16,128]{1,0:T(8,128)}, f32[16,128]{1,0:T(8,128)}, \
u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), source_target_pairs={{0,1}}
  %all-gather-start = (bf16[64]{0:T(512)}, bf16[256]{0:T(512)}) \
all-gather-start(%y), replica_groups={{0,1,2,3}}, dimensions={0}
  %copy-done = f32[16,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %back-start = (f32[16,128]{1,0:T(8,128)}, f32[16,128]{1,0:T(8,128)S(1)}, \
u32[]{:S(2)}) copy-start(%copy-done)
  %slice-done = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  %all-reduce-done = (f32[16,128]{1,0:T(8,128)}, bf16[64]{0:T(512)}) \
all-reduce-done(%all-reduce-start)
  %collective-permute-done = f32[16,128]{1,0:T(8,128)} \
collective-permute-done(%collective-permute-start)
  %all-gather-done = bf16[256]{0:T(512)} all-gather-done(%all-gather-start)
  ROOT %back-done = f32[16,128]{1,0:T(8,128)} copy-done(%back-start)
}
"""


@pytest.mark.parametrize(
    ("name", "read", "written"),
    [
        ("copy", 8192, 0),
        ("back", 0, 8192),
        ("slice", 8192, 0),
        ("all-reduce", 8192 + 128, 8192 + 128),
        ("collective-permute", 8192, 8192),
        ("all-gather", 128, 512),
    ],
)
def test_a_pair_reads_once_and_writes_once(name, read, written):
    by_name = {one.name: one for one in costs(PAIRS, num_replicas=4).instructions}
    assert by_name[f"{name}-start"].hbm_bytes == read
    assert by_name[f"{name}-done"].hbm_bytes == written


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[8,128]{1,0:T(8,128)}", 4096),
        ("bf16[3]{0:T(512)(128)(2,1)}", 6),
        ("pred[16]{0}", 16),
        ("s4[16]{0}", 8),
        ("f8e4m3fn[16]{0}", 16),
        ("c64[2]", 16),
        ("f32[]{:T(256)}", 4),
        ("f32[0,4]", 0),
        ("(f32[2]{0}, /*index=1*/(bf16[2]{0}, s32[]))", 8 + 4 + 4),
        ("token[]", 0),
    ],
)
def test_tensor_bytes(shape, size):
    assert hlo.tensor_bytes(shape) == size


@pytest.mark.parametrize("text", ["", "HloModule m", "func.func @main() {\n}"])
def test_another_text_is_no_module(text):
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse(text)


CONDITIONAL = """\
HloModule conditional

%yes (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %a = f32[8]{0} tanh(%p), backend_config={"estimated_cycles":"10"}
}

%no (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} sine(%p.1), backend_config={"estimated_cycles":"70"}
}

%called (p.2: f32[8]) -> f32[8] {
  %p.2 = f32[8]{0} parameter(0)
  ROOT %e = f32[8]{0} negate(%p.2), backend_config={"estimated_cycles":"5"}
}

ENTRY %main (w: pred[], x: f32[8]) -> f32[8] {
  %w = pred[]{:T(1024)} parameter(0)
  %x = f32[8]{0} parameter(1)
  %if = f32[8]{0} conditional(%w, %x, %x), BRANCHES
  ROOT %c = f32[8]{0} call(%if), to_apply=%called
}
"""


@pytest.mark.parametrize(
    "branches",
    [
        "true_computation=%yes, false_computation=%no",
        "branch_computations={%yes, %no}",
    ],
)
def test_of_a_conditional_the_costliest_branch_counts(branches):
    found = costs(CONDITIONAL.replace("BRANCHES", branches), num_replicas=1)
    assert [one.name for one in found.instructions] == ["b", "e"]
    assert found.cycles == 75


def test_a_collective_of_a_branch_that_is_not_taken_does_not_run():
    text = CONDITIONAL.replace("BRANCHES", "branch_computations={%yes, %no}").replace(
        "tanh(%p)", "all-reduce(%p), replica_groups={}, to_apply=%sum"
    )
    (found,) = costs(text, num_replicas=4).collectives
    assert (found.count, found.operand_bytes) == (1, 32)
    assert (found.runs, found.run_bytes) == (0, 0)


# As libtpu 0.0.52 takes a large all-reduce apart, if only some arithmetic reads it.
FUSED = """\
HloModule fused

%all-reduce-scatter (input: f32[1024]) -> f32[256] {
  %input = f32[1024]{0} parameter(0)
  %all-reduce = f32[1024]{0} all-reduce(%input), replica_groups={}, to_apply=%sum
  %id = u32[] replica-id()
  ROOT %part = f32[256]{0} dynamic-slice(%all-reduce, %id), dynamic_slice_sizes={256}
}

%all-gather (input.1: f32[256]) -> f32[1024] {
  %input.1 = f32[256]{0} parameter(0)
  %room = f32[1024]{0} broadcast(%zero), dimensions={}
  %id.1 = u32[] replica-id()
  %placed = f32[1024]{0} dynamic-update-slice(%room, %input.1, %id.1)
  ROOT %whole = f32[1024]{0} all-reduce(%placed), replica_groups={}, to_apply=%sum
}

ENTRY %main (x: f32[1024], y: f32[8]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  %y = f32[8]{0} parameter(1)
  %small = f32[8]{0} all-reduce(%y), replica_groups={{0,1},{2,3}}, to_apply=%sum
  %fusion = f32[256]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter
  %tanh = f32[256]{0} tanh(%fusion)
  ROOT %fusion.1 = f32[1024]{0} fusion(%tanh), kind=kCustom, calls=%all-gather
}
"""


def test_parts_of_a_collective_within_fusions_run_and_are_known_as_such():
    small, parts = costs(FUSED, num_replicas=4).collectives
    assert (small.count, small.fused, small.run_bytes) == (1, 0, 32)
    assert (parts.count, parts.fused, parts.group_size) == (2, 2, 4)
    assert (parts.runs, parts.run_bytes) == (2, 2 * 4096)


COLLECTIVES = """\
HloModule collectives

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

%inner (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %r = f32[4]{0} all-reduce(%q), replica_groups={{0,1},{2,3}}, to_apply=%sum
}

ENTRY %main (x: f32[8], y: bf16[2]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %y = bf16[2]{0} parameter(1)
  %one = (f32[8]{0}, bf16[2]{0}) all-reduce(%x, %y), replica_groups={}, to_apply=%sum
  %two = f32[8]{0} all-reduce-start(%x), replica_groups=[1,4]<=[4], to_apply=%sum
  %three = f32[8]{0} all-reduce-done(%two)
  %gather = f32[32]{0} all-gather(%x), replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}
  %call = f32[4]{0} call(%x), to_apply=%inner
  ROOT %out = f32[8]{0} add(%x, %three), backend_config={"estimated_cycles":"2"}
}
"""


def once(kind, *, count, operand_bytes, group_size):
    """Return collectives each of which runs once."""
    return Collective(
        kind, count, operand_bytes, group_size, runs=count, run_bytes=operand_bytes
    )


def test_collectives_anywhere_and_pairs_once():
    found = costs(COLLECTIVES, num_replicas=4)
    assert found.collectives == (
        once("all-gather", count=1, operand_bytes=32, group_size=2),
        once("all-reduce", count=1, operand_bytes=16, group_size=2),
        once("all-reduce", count=2, operand_bytes=32 + 4 + 32, group_size=4),
    )
    assert found.without_estimate == {"all-reduce": 3, "all-gather": 1}
    assert found.cycles == 2
