"""What an optimised HLO module costs: its cycles, and what it sends to others."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

from tpu_compiler import hlo
from tpu_compiler.hlo import HloLine, HloProgram
from tpu_compiler.loops import trip_count

# They name, pack or hand on values that are there already.
_FREE = (
    "parameter",
    "constant",
    "bitcast",
    "tuple",
    "get-tuple-element",
    "after-all",
    "partition-id",
    "replica-id",
)
_FREE_CALL = 'custom_call_target="AllocateBuffer"'
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction that runs, in ENTRY or in what it calls.

    Attributes:
      name: in the HLO text.
      opcode: such as fusion, convolution or copy.
      shape: of its result, with layout.
      cycles: of one run, as the compiler estimates it; None where it does not.
      hbm_bytes: that one run reads from HBM and writes to it, without padding. Of a
        pair the start reads and the done writes.
      repeats: how often it runs: more than once inside a loop.
      op_name: the layer that it belongs to, or "".
      source_file: of the layer's code, or "" where the module does not tell.
      source_line: in that file, or 0.
    """

    name: str
    opcode: str
    shape: str
    cycles: int | None
    hbm_bytes: int
    repeats: int
    op_name: str
    source_file: str
    source_line: int

    @property
    def total_cycles(self) -> int:
        """The cycles of all its runs, 0 where the compiler gives none."""
        return (self.cycles or 0) * self.repeats


@dataclasses.dataclass(frozen=True)
class Collective:
    """Instructions of one kind by which replicas exchange what they have.

    Attributes:
      kind: such as all-reduce.
      count: how many there are in the program; one in a loop is one.
      operand_bytes: of all of them together, on each replica, without padding.
      group_size: how many replicas take part in each.
      runs: how often they run in all; one in a loop as often as the loop.
      run_bytes: their operands' in all these runs.
      fused: how many of them are within fusions: what the compiler makes of a large one
        whose result only some arithmetic reads. Each is a part, such as the first pass
        of two, and its groups and bytes are not the program's.
    """

    kind: str
    count: int
    operand_bytes: int
    group_size: int
    runs: int
    run_bytes: int
    fused: int = 0


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a module costs.

    Attributes:
      instructions: all that run and are not free, in order. Of a conditional's branches
        the costliest.
      collectives: by kind and size of their groups.
      without_estimate: opcodes for which the compiler has none, and how many there are.
        Pairs of start and done count once, and single numbers not at all.
      unknown_loops: names of loops whose number of rounds is not known; one is counted.
    """

    instructions: tuple[Instruction, ...]
    collectives: tuple[Collective, ...]
    without_estimate: dict[str, int]
    unknown_loops: tuple[str, ...]

    @property
    def cycles(self) -> int:
        """The cycles of all instructions."""
        return sum(instruction.total_cycles for instruction in self.instructions)

    @property
    def hbm_bytes(self) -> int:
        """What all instructions move between HBM and the core."""
        return sum(one.hbm_bytes * one.repeats for one in self.instructions)


def costs(text: str, *, num_replicas: int) -> Costs:
    """Return what a module costs.

    Args:
      text: its optimised HLO.
      num_replicas: that it was compiled for.

    Raises:
      ValueError: the text is not that of an HLO module.
    """
    program = hlo.parse(text)
    unknown_loops: list[str] = []
    instructions = tuple(_walk(program, program.entry, 1, unknown_loops))
    without_estimate = collections.Counter(
        instruction.opcode.removesuffix("-start")
        for instruction in instructions
        if instruction.cycles is None
        and not re.match(r"\w+\[\]", instruction.shape)
        and not instruction.opcode.endswith("-done")
    )
    return Costs(
        instructions,
        _collectives(program, num_replicas, instructions),
        dict(without_estimate),
        tuple(unknown_loops),
    )


def _walk(
    program: HloProgram, computation: str, repeats: int, unknown_loops: list[str]
) -> Iterator[Instruction]:
    """Yield what runs in a computation and in those that it calls."""
    for line in program.computations[computation].values():
        if line.opcode == "while":
            rounds = trip_count(program, computation, line)
            if rounds is None:
                unknown_loops.append(line.name)
                rounds = 1
            for part in line.called("condition") + line.called("body"):
                yield from _walk(program, part, repeats * rounds, unknown_loops)
        elif line.opcode == "conditional":
            yield from _costliest(program, _branches(line), repeats, unknown_loops)
        elif line.opcode == "call":
            for part in line.called("to_apply"):
                yield from _walk(program, part, repeats, unknown_loops)
        elif line.opcode not in _FREE and _FREE_CALL not in line.attributes:
            yield _instruction(program, computation, line, repeats)


def _branches(line: HloLine) -> list[str]:
    attributes = ("true_computation", "false_computation", "branch_computations")
    return [name for attribute in attributes for name in line.called(attribute)]


def _costliest(
    program: HloProgram, branches: list[str], repeats: int, unknown_loops: list[str]
) -> list[Instruction]:
    """Return what runs in the branch that takes the most cycles."""
    walked = []
    for branch in branches:
        unknown: list[str] = []
        walked.append((list(_walk(program, branch, repeats, unknown)), unknown))
    instructions, unknown = max(
        walked, key=lambda branch: sum(one.total_cycles for one in branch[0])
    )
    unknown_loops += unknown
    return instructions


def _instruction(
    program: HloProgram, computation: str, line: HloLine, repeats: int
) -> Instruction:
    file, number = program.source(line) or ("", 0)
    moved = _moved(program.computations[computation], line)
    return Instruction(
        name=line.name,
        opcode=line.opcode,
        shape=line.shape,
        cycles=line.cycles,
        hbm_bytes=sum(map(hlo.hbm_bytes, moved)),
        repeats=repeats,
        op_name=line.op_name,
        source_file=file,
        source_line=number,
    )


def _moved(lines: dict[str, HloLine], line: HloLine) -> list[str]:
    """Return the shapes of what an instruction reads and writes.

    Between the start and the done of a pair goes a tuple, which holds what is read once
    more, and where the result will be: (f32[8]{0:S(1)}, f32[8]{0}, u32[]{:S(2)}). Where
    in it each stands differs from opcode to opcode.
    """
    read = [lines[name].shape for name in line.operand_names]
    if line.opcode.endswith("-start"):
        return read
    if line.opcode.endswith("-done"):
        return [line.shape]
    return [*read, line.shape]


def _collectives(
    program: HloProgram, num_replicas: int, instructions: Iterable[Instruction]
) -> tuple[Collective, ...]:
    """Return all collectives, wherever in the module they stand."""
    repeats = {one.name: one.repeats for one in instructions}
    fusions = {
        part: line.name
        for lines in program.computations.values()
        for line in lines.values()
        if line.opcode == "fusion"
        for part in line.called("calls")
    }
    found = collections.defaultdict(list)
    for computation, lines in program.computations.items():
        fusion = fusions.get(computation)
        for line in lines.values():
            kind = line.opcode.removesuffix("-start")
            if kind in _COLLECTIVES:
                size = sum(
                    hlo.tensor_bytes(lines[name].shape) for name in line.operand_names
                )
                # In a branch that is not taken none.
                runs = repeats.get(fusion or line.name, 0)
                row = (size, runs, fusion is not None)
                found[kind, _group_size(line, num_replicas)].append(row)
    return tuple(
        Collective(
            kind,
            count=len(rows),
            operand_bytes=sum(size for size, _, _ in rows),
            group_size=group_size,
            runs=sum(runs for _, runs, _ in rows),
            run_bytes=sum(size * runs for size, runs, _ in rows),
            fused=sum(fused for _, _, fused in rows),
        )
        for (kind, group_size), rows in sorted(found.items())
    )


def _group_size(line: HloLine, num_replicas: int) -> int:
    """Read replica_groups={{0,1},{2,3}}, [2,4]<=[8], or {} for all replicas."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line.attributes)
    if listed:
        return len(listed[1].split(","))
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=", line.attributes)
    return int(iota[1].split(",")[-1]) if iota else num_replicas
