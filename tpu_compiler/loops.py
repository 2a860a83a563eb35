"""How often a loop of an optimised HLO module runs, where its own text decides that.

The module does not say it. But a loop that counts does so with whole numbers that
begin as constants, which can be followed from one round to the next.
"""

import re
from collections.abc import Callable
from typing import Any

from tpu_compiler.hlo import Line, Program

_MOST_ROUNDS = 10_000
_NUMBER = re.compile(r"(?:[su]\d+|pred)\[\]")

# A value is a number, a list for a tuple, or None where it is not known.
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
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


def trip_count(program: Program, computation: str, loop: Line) -> int | None:
    """Returns how often a loop's body runs, None when that is not known.

    Args:
      program: the module.
      computation: the one in which the loop stands.
      loop: its instruction, a `while`.
    """
    [condition] = loop.called("condition")
    [body] = loop.called("body")
    state = _value(program, computation, loop.operand_names[0], None)
    for rounds in range(_MOST_ROUNDS):
        goes_on = _result(program, condition, [state])
        if goes_on is None:
            return None
        if not goes_on:
            return rounds
        state = _result(program, body, [state])
    return None


def _result(program: Program, computation: str, arguments: list[Any] | None) -> Any:
    """Returns the value of a computation."""
    for name, line in program.computations[computation].items():
        if line.is_root:
            return _value(program, computation, name, arguments)
    return None


def _value(
    program: Program, computation: str, name: str, arguments: list[Any] | None
) -> Any:
    """Returns the value of an instruction, given those of the parameters."""
    line = program.computations[computation][name]

    def operands() -> list[Any]:
        return [_value(program, computation, n, arguments) for n in line.operand_names]

    if line.opcode == "parameter":
        return None if arguments is None else arguments[int(line.operands)]
    if line.opcode == "tuple":
        return operands()
    if line.opcode == "get-tuple-element":
        [whole] = operands()
        index = re.search(r"\bindex=(\d+)", line.attributes)
        return whole[int(index[1])] if isinstance(whole, list) and index else None
    if not _NUMBER.match(line.shape):  # no counter; what it is made of may be long
        return None
    if line.opcode == "constant":
        return _constant(line.operands)
    if line.opcode in ("fusion", "call"):
        [inner] = line.called("calls") or line.called("to_apply")
        return _result(program, inner, operands())
    return _computed(line, operands())


def _constant(text: str) -> int | None:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _computed(line: Line, operands: list[Any]) -> Any:
    """Returns what an operation makes of numbers."""
    if not all(isinstance(operand, int) for operand in operands):
        return None
    if line.opcode == "compare":
        direction = re.search(r"\bdirection=(\w+)", line.attributes)
        return _COMPARISONS[direction[1]](*operands) if direction else None
    operation = _ARITHMETIC.get(line.opcode)
    return operation(*operands) if operation else None
