"""What the compiler says when it does not compile, read."""

import dataclasses
import re

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([BKMGT])"
# Said before the program is planned, and after: the compiler has both.
_OUT_OF_MEMORY = (
    re.compile(rf"required for HLO temporaries \({_SIZE}\) exceeds"),
    re.compile(rf"Used {_SIZE} of \S+ hbm"),
)
_BUFFER = re.compile(
    rf"^ *\d+\. Size: {_SIZE}\n"
    r'(?: *Operator: .*?op_name="(?P<op_name>[^"]*)".*\n)?'
    r"(?: *Operator: .*\n)?"
    r" *Shape: (?P<shape>.*)\n",
    re.MULTILINE,
)
_MLIR = re.compile(r"Detailed error from MLIR: *(.*?)error: (?:(loc\(.*?\)): )?(.*)")
_LEGALIZE = re.compile(r"operation '([\w.]+)'")
_COMPILING = re.compile(r"while compiling %\S+ = .*? ([a-z][a-z0-9-]*)\(.*")
_CUSTOM_CALL = re.compile(r"Custom emitter for (\S+) not found")
_SUSPECT = re.compile(
    r"Suspected Python Code Location:\s*(?:(\S+):(\d+):\d+ )?\[([^\]\n=]+)\]"
)
_NOISE = re.compile(
    r"^(?:[A-Z_]+: )?(?:E\d+: )?(?:XLA:TPU compile permanent error\. )?"
)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A piece of memory that counts when there is too little.

    Attributes:
      bytes: its size.
      shape: of the tensor in it.
      location: the layer that makes it, or "".
    """

    bytes: int
    shape: str
    location: str


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Why a module is rejected: one line, the operation and its location, or ""."""

    message: str
    op: str
    location: str


def out_of_memory(text: str, hbm_bytes: int) -> int | None:
    """Return the bytes of HBM that are needed; more than there are.

    None when the text is about something else. The compiler rounds to 0.01 of a unit,
    so that it may write less than there are.
    """
    for pattern in _OUT_OF_MEMORY:
        if match := pattern.search(text):
            return max(_bytes(match[1], match[2]), hbm_bytes + 1)
    return None


def buffers(text: str) -> tuple[Buffer, ...]:
    """Return the buffers that the compiler lists, the largest first.

    It lists none when the lack shows before the program is planned.
    """
    found = {
        Buffer(_bytes(m[1], m[2]), m["shape"], m["op_name"] or "")
        for m in _BUFFER.finditer(text)
    }
    return tuple(sorted(found, key=lambda buffer: -buffer.bytes))


def rejection(text: str) -> Rejection:
    """Return what is wrong with a module, from the compiler's message."""
    if match := _MLIR.search(text):
        op = _LEGALIZE.search(match[3])
        message = match[3].partition(": %")[0].partition(': "')[0].strip()
        location = location_of(match[2] or match[1])
        return Rejection(message, op[1] if op else "", location)
    message = _NOISE.sub("", next(filter(None, map(str.strip, text.splitlines())), ""))
    op, location = _CUSTOM_CALL.search(text), ""
    if match := _COMPILING.search(text):
        op = match
        name = re.search(r'op_name="([^"]*)"', match[0])
        location = name[1] if name else ""
    if match := _SUSPECT.search(text):
        location = f"{match[3]} ({match[1]}:{match[2]})" if match[1] else match[3]
    return Rejection(message, op[1] if op else "", location)


def location_of(mlir: str) -> str:
    """Return a location as MLIR writes it for people: a layer's name, file and line.

    Such as loc("stem/Tanh"("layers.py":33:1)); "" when it is unknown. The file "-" is
    the text of the module itself.
    """
    name = re.search(r'"([^"]*)"(?!:\d)', mlir)
    file = re.search(r'(?:"([^"]*)"|(?<![\w"])(-|<?\w[\w./]*>?)):(\d+)', mlir)
    parts = [name[1]] if name else []
    if file and file[3] != "0":
        path = file[1] or file[2]
        line = f"line {file[3]} of the module" if path == "-" else f"{path}:{file[3]}"
        parts.append(f"({line})" if parts else line)
    return " ".join(parts)


def module_tensors(largest: list[dict]) -> tuple[Buffer, ...]:
    """Return the worker's list of a module's largest tensors as buffers."""
    return tuple(
        Buffer(one["bytes"], one["shape"], location_of(one["location"]) or one["op"])
        for one in largest
    )


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * _UNITS[unit])
