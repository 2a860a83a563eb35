"""How often a loop of an optimised HLO module runs, where its own text decides that.

The module does not say it. But a loop that counts does so with whole numbers that
begin as constants, which can be followed from one round to the next.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from tpu_compiler.hlo import HloLine, HloProgram

_MOST_ROUNDS = 10_000
_NUMBER = re.compile(r"(?:([su])(\d+)|pred)\[\]")

# A value is a number, a list for a tuple, or None where it is not known.
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
}
_ARITHMETIC: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "minimum": min,
    "maximum": max,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "copy": lambda a: a,
    "convert": lambda a: a,
    "bitcast": lambda a: a,
    "reshape": lambda a: a,
}
_PACKING = ("parameter", "tuple", "get-tuple-element")
_KNOWN = ("constant", "fusion", "call", "compare", *_ARITHMETIC)


def trip_count(program: HloProgram, computation: str, loop: HloLine) -> int | None:
    """Return how often a loop's body runs, None when that is not known.

    Args:
      program: the module.
      computation: the one in which the loop stands.
      loop: its instruction, a `while`.
    """
    [condition] = loop.called("condition")
    [body] = loop.called("body")
    values = _Values(program)
    state = values.of(computation, loop.operand_names[0], None)
    for rounds in range(_MOST_ROUNDS):
        goes_on = values.result(condition, [state])
        if goes_on is None:
            return None
        if not goes_on:
            return rounds
        state = values.result(body, [state])
    return None


class _Values:
    """The values of a module's instructions, as far as they follow from constants."""

    def __init__(self, program: HloProgram):
        self._program = program
        self._needed = functools.cache(self._find_needed)  # the same in each round

    def result(self, computation: str, arguments: list[Any] | None) -> Any:
        """Return the value of a computation."""
        for name, line in self._program.computations[computation].items():
            if line.is_root:
                return self.of(computation, name, arguments)
        return None

    def of(self, computation: str, name: str, arguments: list[Any] | None) -> Any:
        """Return the value of an instruction, given those of the parameters."""
        found: dict[str, Any] = {}
        for line, operand_names in self._needed(computation, name):
            operands = [found.get(operand) for operand in operand_names]
            found[line.name] = self._value(line, operands, arguments)
        return found[name]

    def _find_needed(
        self, computation: str, name: str
    ) -> list[tuple[HloLine, list[str]]]:
        """Return the instructions that one follows from, in the order they run in.

        Each comes with the names of its operands. There are none where the value will
        not be known anyway: what it is made of may be long.
        """
        lines = self._program.computations[computation]
        needed: dict[str, list[str]] = {}
        pending = [name]
        while pending:
            line = lines[pending.pop()]
            if line.name not in needed:
                needed[line.name] = line.operand_names if _can_be_known(line) else []
                pending += needed[line.name]
        return [(lines[name], needed[name]) for name in lines if name in needed]

    def _value(
        self, line: HloLine, operands: list[Any], arguments: list[Any] | None
    ) -> Any:
        """Return the value of an instruction, given those of its operands."""
        if line.opcode == "parameter":
            return None if arguments is None else arguments[int(line.operands)]
        if line.opcode == "tuple":
            return operands
        if line.opcode == "get-tuple-element":
            return _element(line, operands[0])
        if not _can_be_known(line):
            return None
        if line.opcode == "constant":
            return _constant(line.operands)
        if line.opcode in ("fusion", "call"):
            [inner] = line.called("calls") or line.called("to_apply")
            return self.result(inner, operands)
        return _computed(line, operands)


def _can_be_known(line: HloLine) -> bool:
    """Whether an instruction packs values or makes a whole number."""
    return line.opcode in _PACKING or (
        line.opcode in _KNOWN and _NUMBER.match(line.shape) is not None
    )


def _element(line: HloLine, packed: Any) -> Any:
    index = re.search(r"\bindex=(\d+)", line.attributes)
    return packed[int(index[1])] if isinstance(packed, list) and index else None


def _constant(text: str) -> int | None:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _computed(line: HloLine, operands: list[Any]) -> int | None:
    """Return what an operation makes of numbers."""
    if not all(isinstance(operand, int) for operand in operands):
        return None
    if line.opcode == "compare":
        direction = re.search(r"\bdirection=(\w+)", line.attributes)
        return _COMPARISONS[direction[1]](*operands) if direction else None
    return _wrapped(_ARITHMETIC[line.opcode](*operands), line.shape)


def _wrapped(number: int, shape: str) -> int:
    """Return what is left of a number in the bits that a shape has for it."""
    match = _NUMBER.match(shape)
    if match is None or match[1] is None:  # a truth value
        return number != 0
    span = 2 ** int(match[2])
    number %= span
    return number - span if match[1] == "s" and number >= span // 2 else number
