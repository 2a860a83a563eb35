"""The text of an optimised HLO module, read."""

import dataclasses
import math
import re
from collections.abc import Iterator

# The first line of a computation: ENTRY %main.3 (Arg_0.1: f32[8]) -> f32[8] {
_COMPUTATION = re.compile(r"(ENTRY )?%(\S+) .*\{$")
_NAMED = re.compile(r"  (ROOT )?%(\S+) = ")
_REFERENCE = re.compile(r"%([\w.\-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_STRING = r'{}="((?:[^"\\]|\\.)*)"'
_OP_NAME = re.compile(_STRING.format("op_name"))
_SOURCE_FILE = re.compile(_STRING.format("source_file"))
_TENSOR = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True, slots=True)
class HloLine:
    """An instruction as it is written.

    Attributes:
      name: without the %.
      shape: with layout, such as f32[8,128]{1,0:T(8,128)}; a tuple's in brackets.
      opcode: such as fusion.
      operands: the text between the brackets after it: names, or a constant's value.
      attributes: the rest of the line.
      is_root: whether its value is the computation's.
    """

    name: str
    shape: str
    opcode: str
    operands: str
    attributes: str
    is_root: bool

    @property
    def operand_names(self) -> list[str]:
        """The names of the instructions that it reads."""
        return _REFERENCE.findall(self.operands)

    @property
    def cycles(self) -> int | None:
        """The compiler's estimate, None where it gives none."""
        match = _CYCLES.search(self.attributes)
        return int(match[1]) if match else None

    @property
    def op_name(self) -> str:
        """The name that the program gave the operation: its layer. It may be ""."""
        match = _OP_NAME.search(self.attributes)
        return match[1] if match else ""

    def called(self, attribute: str) -> list[str]:
        """Return the computations that an attribute such as body= names."""
        match = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return _REFERENCE.findall(match[1]) if match else []


@dataclasses.dataclass(frozen=True)
class HloProgram:
    """A module.

    Attributes:
      entry: the name of the computation that runs.
      computations: each one's instructions by name, in the order they run in.
      frames: source file and line by stack frame id.
    """

    entry: str
    computations: dict[str, dict[str, HloLine]]
    frames: dict[int, tuple[str, int]]

    def source(self, line: HloLine) -> tuple[str, int] | None:
        """Return the file and the line in it that an instruction comes from."""
        frame = re.search(r"\bstack_frame_id=(\d+)", line.attributes)
        if frame:
            return self.frames.get(int(frame[1]))
        file = _SOURCE_FILE.search(line.attributes)
        number = re.search(r"\bsource_line=(\d+)", line.attributes)
        if file is None or number is None or file[1] == "-":  # the module's own text
            return None
        return file[1], int(number[1])


def parse(text: str) -> HloProgram:
    """Return the module that a text describes; ValueError if it describes none."""
    entry = None
    computations: dict[str, dict[str, HloLine]] = {}
    current: dict[str, HloLine] | None = None
    header: list[str] = []
    for row in text.splitlines():
        if current is None and (match := _COMPUTATION.fullmatch(row)):
            current = computations.setdefault(match[2], {})
            entry = match[2] if match[1] else entry
        elif current is None:
            header.append(row)
        elif row.startswith("}"):
            current = None
        elif match := _NAMED.match(row):
            line = _line(match[2], row[match.end() :], is_root=bool(match[1]))
            current[line.name] = line
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of an HLO module")
    return HloProgram(entry, computations, _frames(header))


def tensor_bytes(shape: str) -> int:
    """Return the size of a shape or of all in a tuple, without padding."""
    total = 0
    for kind, bits, sides in _TENSOR.findall(shape):
        elements = math.prod(int(side) for side in sides.split(",") if side)
        width = 8 if kind == "pred" else int(bits)
        total += math.ceil(elements * width / 8)
    return total


def hbm_bytes(shape: str) -> int:
    """Return the part of tensor_bytes that lies in HBM.

    A layout such as {1,0:T(8,128)S(1)} says that a tensor lies in another memory.
    """
    elsewhere = re.compile(r"[a-z]+\d*\w*\[[\d,]*\]\{[^}]*S\(\d+\)[^}]*\}")
    return tensor_bytes(elsewhere.sub("", shape))


def _line(name: str, rest: str, *, is_root: bool) -> HloLine:
    """Take apart: SHAPE OPCODE(OPERANDS)ATTRIBUTES."""
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", end)
    closing = _closing(rest, opening)
    return HloLine(
        name,
        rest[:end],
        rest[end:opening].strip(),
        rest[opening + 1 : closing],
        rest[closing + 1 :],
        is_root,
    )


def _closing(text: str, opening: int) -> int:
    """Return the position at which the bracket that opens at another is closed."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"a bracket stays open: {text[opening : opening + 80]}")


def _frames(header: list[str]) -> dict[int, tuple[str, int]]:
    """Read the tables before the first computation.

    FileNames         FileLocations                       StackFrames
    1 "layers.py"     1 {file_name_id=1 ... line=7 ...}   1 {file_location_id=1 ...}
    """
    tables = dict(_tables(header))
    files = {n: text.strip('"') for n, text in tables.get("FileNames", {}).items()}
    locations = {
        number: (files[_field(text, "file_name_id")], _field(text, "line"))
        for number, text in tables.get("FileLocations", {}).items()
    }
    return {
        number: locations[_field(text, "file_location_id")]
        for number, text in tables.get("StackFrames", {}).items()
    }


def _tables(header: list[str]) -> Iterator[tuple[str, dict[int, str]]]:
    """Yield a table's name and its rows by number."""
    rows: dict[int, str] = {}
    for text in header:
        number, _, rest = text.partition(" ")
        if number.isdecimal():
            rows[int(number)] = rest
        elif text and not rest:
            rows = {}
            yield text, rows  # filled by the rows that follow


def _field(text: str, name: str) -> int:
    match = re.search(rf"\b{name}=(\d+)", text)
    if match is None:
        raise ValueError(f"no {name} in {text!r}")
    return int(match[1])
