"""How often a loop runs, by its own text."""

import time

import pytest

from tpu_compiler.costs import costs


def loop(
    condition="compare(%i.1, %limit), direction=LT",
    limit="constant(7)",
    step="add(%i, %one)",
    start="constant(0)",
    kind="s32",
):
    """A loop over (counter, data) whose body takes 100 cycles, with one of 3 before."""
    return f"""\
HloModule loop

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %p = (s32[]{{:T(256)}}, f32[8]{{0}}) parameter(0)
  %one = s32[]{{:T(256)}} constant(1)
  %i = s32[]{{:T(256)}} get-tuple-element(%p), index=0
  %d = f32[8]{{0}} get-tuple-element(%p), index=1
  %next = s32[]{{:T(256)}} {step}
  %f = f32[8]{{0}} tanh(%d), backend_config={{"estimated_cycles":"100"}}
  ROOT %out = (s32[]{{:T(256)}}, f32[8]{{0}}) tuple(%next, %f)
}}

%condition (p.1: (s32[], f32[8])) -> pred[] {{
  %p.1 = (s32[]{{:T(256)}}, f32[8]{{0}}) parameter(0)
  %limit = s32[]{{:T(256)}} {limit}
  %i.1 = s32[]{{:T(256)}} get-tuple-element(%p.1), index=0
  %d.1 = f32[8]{{0}} get-tuple-element(%p.1), index=1
  ROOT %goes = pred[]{{:T(1024)}} {condition}
}}

ENTRY %main (x: f32[8], n: s32[]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  %n = s32[]{{:T(256)}} parameter(1)
  %start = s32[]{{:T(256)}} {start}
  %begin = s32[]{{:T(256)}} copy(%start)
  %copy = f32[8]{{0}} copy(%x), backend_config={{"estimated_cycles":"3"}}
  %state = (s32[]{{:T(256)}}, f32[8]{{0}}) tuple(%begin, %copy)
  %while.1 = (s32[]{{:T(256)}}, f32[8]{{0}}) while(%state), condition=%condition, \
body=%body
  ROOT %y = f32[8]{{0}} get-tuple-element(%while.1), index=1
}}
""".replace("s32[]", f"{kind}[]")


@pytest.mark.parametrize(
    ("changes", "rounds"),
    [
        ({}, 7),
        ({"condition": "compare(%i.1, %limit), direction=LE"}, 8),
        ({"condition": "compare(%limit, %i.1), direction=GT"}, 7),
        ({"condition": "compare(%i.1, %limit), direction=NE"}, 7),
        ({"step": "add(%i, %i)", "start": "constant(1)"}, 3),
        ({"step": "multiply(%i, %i)", "start": "constant(2)"}, 2),
        ({"start": "constant(9)"}, 0),
        ({"start": "constant(250)", "limit": "constant(9)", "kind": "u8"}, 0),
        (
            {
                "start": "constant(250)",
                "kind": "u8",
                "limit": "constant(3)",
                "condition": "compare(%i.1, %limit), direction=NE",
            },
            9,
        ),
        (
            {
                "start": "constant(125)",
                "kind": "s8",
                "limit": "constant(0)",
                "condition": "compare(%i.1, %limit), direction=GT",
            },
            3,
        ),
        (
            {
                "step": "subtract(%i, %one)",
                "start": "constant(5)",
                "limit": "constant(-1)",
                "condition": "compare(%i.1, %limit), direction=GT",
            },
            6,
        ),
    ],
)
def test_a_loop_that_counts(changes, rounds):
    found = costs(loop(**changes), num_replicas=1)
    assert found.cycles == 3 + 100 * rounds
    assert found.unknown_loops == ()
    [tanh] = [one for one in found.instructions if one.opcode == "tanh"]
    assert tanh.repeats == rounds


@pytest.mark.parametrize(
    "changes",
    [
        {"start": "copy(%n)"},
        {"step": "divide(%i, %one)"},
        {"step": "subtract(%i, %one)"},  # for ever, or until it overflows
        {"condition": "compare(%d.1, %d.1), direction=LT"},
        {"step": "xor(%i, %one)"},
        {  # without wrapping, a number of 2**10,000 bits
            "step": "multiply(%i, %i)",
            "start": "constant(3)",
            "condition": "compare(%i.1, %limit), direction=NE",
        },
    ],
)
def test_a_loop_that_does_not_tell_counts_once(changes):
    found = costs(loop(**changes), num_replicas=1)
    assert found.unknown_loops == ("while.1",)
    assert found.cycles == 103


@pytest.mark.parametrize(
    ("operation", "rounds"),
    [("copy(%{0})", 7), ("maximum(%{0}, %{0})", 7), ("xor(%{0}, %{0})", None)],
)
def test_a_long_chain_of_operations_is_followed_in_a_moment(operation, rounds):
    chain = ["%v0 = s32[]{:T(256)} add(%i, %one)"]
    chain += [
        f"%v{n + 1} = s32[]{{:T(256)}} {operation.format(f'v{n}')}" for n in range(2000)
    ]
    text = loop(step="copy(%v2000)").replace(
        "  %next =", "".join(f"  {line}\n" for line in chain) + "  %next ="
    )
    started = time.process_time()
    found = costs(text, num_replicas=1)
    assert time.process_time() - started < 5
    assert found.unknown_loops == (() if rounds else ("while.1",))
    [tanh] = [one for one in found.instructions if one.opcode == "tanh"]
    assert tanh.repeats == (rounds or 1)


def test_a_collective_in_a_loop_runs_each_round():
    text = loop().replace(
        'tanh(%d), backend_config={"estimated_cycles":"100"}',
        "all-reduce(%d), replica_groups={}, to_apply=%sum",
    )
    (found,) = costs(text, num_replicas=4).collectives
    assert (found.count, found.operand_bytes) == (1, 32)
    assert (found.runs, found.run_bytes) == (7, 7 * 32)


def test_a_loop_in_a_loop_multiplies_its_rounds():
    """Seven rounds of: 3 cycles, and seven rounds of 100."""
    inner, _, entry = loop().partition("ENTRY %main (x: f32[8], n: s32[])")
    middle = """\
%middle (p.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.2 = (s32[]{:T(256)}, f32[8]{0}) parameter(0)
  %one.2 = s32[]{:T(256)} constant(1)
  %i.2 = s32[]{:T(256)} get-tuple-element(%p.2), index=0
  %next.2 = s32[]{:T(256)} add(%i.2, %one.2)
  %d.2 = f32[8]{0} get-tuple-element(%p.2), index=1
  %start.2 = s32[]{:T(256)} constant(0)
  %copy.2 = f32[8]{0} copy(%d.2), backend_config={"estimated_cycles":"3"}
  %state.2 = (s32[]{:T(256)}, f32[8]{0}) tuple(%start.2, %copy.2)
  %while.2 = (s32[]{:T(256)}, f32[8]{0}) while(%state.2), condition=%condition, \
body=%body
  %f.2 = f32[8]{0} get-tuple-element(%while.2), index=1
  ROOT %out.2 = (s32[]{:T(256)}, f32[8]{0}) tuple(%next.2, %f.2)
}

"""
    outer = "ENTRY %main (x: f32[8], n: s32[])" + entry.replace("%body", "%middle")
    found = costs(inner + middle + outer, num_replicas=1)
    assert found.unknown_loops == ()
    assert found.cycles == 3 + 7 * (3 + 7 * 100)
