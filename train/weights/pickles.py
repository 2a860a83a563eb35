"""Pickles as data: what torch has written, without running any of it.

Python's own unpickler imports and calls what a file names. This one cannot: it knows
dictionaries, lists, numbers and texts, and has a meaning of its own for the few names
that stand for tensors. Names that training checkpoints hold beside tensors, such as
numpy.dtype, become `Skipped`, whatever is done to them. All other names, and opcodes
that nothing of torch's needs, are refused.

Sources: CPython's pickletools for the opcodes, torch/serialization.py and
torch/_utils.py for what torch writes.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# A training checkpoint of a thousand tensors, with an optimizer's, has a tenth of it.
_MOST_OPERATIONS = 2**22
_MOST_LETTERS = 100  # of a name in an error
_WHOLE_NUMBERS = range(-(2**63), 2**63)
_COUNTS = range(2**63)


class RefusedError(Exception):
    """What a file holds that is not read here, in words."""


class DamagedError(RefusedError):
    """The file is not what was once written."""


class Skipped(NamedTuple):
    """Stands for what is no tensor; has nothing of it but the name of its kind."""

    name: str


class Storage(NamedTuple):
    """Numbers that tensors are views of.

    Attributes:
      key: its name in the file.
      kind: of the numbers, as torch calls it: "Float".
      elements: how many there are.
    """

    key: str
    kind: str
    elements: int


class Tensor(NamedTuple):
    """A view of a storage, as the file describes it: nothing of it is checked.

    Attributes:
      storage: should be a Storage.
      offset: of the first element, in elements, as the strides.
      size: elements in each dimension.
      stride: from one element to the next in each dimension.
    """

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Kind(NamedTuple):
    """A type of storage; nothing makes one of it."""

    name: str


class _Name(NamedTuple):
    """A name of the table, with what a call of it stands for."""

    name: str
    make: Callable[..., Any]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Tensor:
    # Behind requires_grad and hooks stand bits by which torch puts a sign off.
    if any(more[2:]):
        raise RefusedError("a tensor whose numbers are yet to be negated or conjugated")
    return Tensor(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _dictionary(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    found = {}
    for key, value in pairs.items() if type(pairs) is dict else pairs:
        _set(found, key, value)
    return found


KINDS = (
    "Float",
    "Double",
    "Half",
    "BFloat16",
    "Long",
    "Int",
    "Short",
    "Char",
    "Byte",
    "Bool",
)

# By the names of what torch writes: what a call stands for.
_TENSORS: Mapping[str, Any] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_NUMPY = ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
_OF_TORCH = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool "
    "strided channels_last contiguous_format preserve_format"
)
_BUILTINS = (
    "bool bytearray bytes complex dict float frozenset int list object set slice str "
    "tuple"
)
# What training checkpoints have beside their tensors. None is looked at.
_SKIPPED = {
    "_codecs.encode",
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "torch.Size",
    "torch.device",
    "types.SimpleNamespace",
    *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in _NUMPY),
    *(f"numpy.dtypes.{bits}DType" for bits in ("Float32", "Float64", "Int32", "Int64")),
    *(f"numpy.{name}" for name in ("float16", "float32", "float64", "int32", "int64")),
    *(f"torch.{name}" for name in _OF_TORCH.split()),
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in _BUILTINS.split()
    ),
}


def _find(module: Any, name: Any) -> Any:
    """Return what stands for a global.

    Raises:
      RefusedError: it is none of those that are known here.
    """
    if type(module) is not str or type(name) is not str:
        raise RefusedError("a global whose name is no text")
    full = f"{module}.{name}"
    if full in _TENSORS:
        return _Name(full, _TENSORS[full])
    if full in _SKIPPED:
        return Skipped(full)
    kind = name.removesuffix("Storage")
    if module == "torch" and kind != name and kind in KINDS:
        return _Kind(kind)
    raise RefusedError(f"{full[:_MOST_LETTERS]}, which is not what weights are made of")


def _set(found: Any, key: Any, value: Any) -> None:
    """Set an entry of a dictionary; one whose key is no plain value is dropped.

    A tuple is none: to hash one that holds itself a billion times would never end. Nor
    is a number of a million digits: each look at it takes as long as the first.
    """
    if type(found) is not dict:
        raise RefusedError("entries for what is no dictionary")
    plain = key is None or isinstance(key, str | float | bytes)
    if plain or (isinstance(key, int) and key in _WHOLE_NUMBERS):
        found[key] = value


class _Machine:
    """Goes through the opcodes of one pickle: each is a method.

    Attributes:
      storages: those that the pickle has named, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._operations = 0

    def run(self, stream: io.BytesIO) -> Any:
        """Return what the pickle at the stream's place holds; leave it behind that."""
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._count(1)
                if opcode.name == "STOP":
                    return self._pop()
                self._act(opcode.name, argument)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            # The words of genops would go on with the bytes that it has read.
            words = str(error).partition("\n")[0][:100]
            raise DamagedError(
                f"a pickle that is damaged or cut off ({words})"
            ) from error
        raise DamagedError("a pickle without an end")

    def _count(self, operations: int) -> None:
        self._operations += operations
        if self._operations > _MOST_OPERATIONS:
            raise RefusedError("a pickle of too many operations")

    def _act(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self._stack.append(argument)
        elif name in _NOTHING:
            pass
        elif act := getattr(self, f"_op_{name.lower()}", None):
            act(argument)
        else:
            raise RefusedError(f"the pickle opcode {name}, which torch does not write")

    def _pop(self) -> Any:
        if self._marks and self._marks[-1] >= len(self._stack):
            raise RefusedError("a pickle that takes more than it has put down")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        found = self._stack[mark:]
        del self._stack[mark:]
        return found

    def _op_mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _op_pop(self, _: None) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _op_pop_mark(self, _: None) -> None:
        self._pop_to_mark()

    def _op_dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _op_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _op_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _op_binget = _op_long_binget = _op_get

    # Containers.

    def _op_empty_list(self, _: None) -> None:
        self._stack.append([])

    def _op_empty_dict(self, _: None) -> None:
        self._stack.append({})

    def _op_empty_set(self, _: None) -> None:
        self._stack.append(Skipped("builtins.set"))

    def _op_additems(self, _: None) -> None:
        self._pop_to_mark()

    def _op_frozenset(self, _: None) -> None:
        self._pop_to_mark()
        self._stack.append(Skipped("builtins.frozenset"))

    def _op_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _op_tuple1(self, _: None) -> None:
        self._take(1)

    def _op_tuple2(self, _: None) -> None:
        self._take(2)

    def _op_tuple3(self, _: None) -> None:
        self._take(3)

    def _take(self, number: int) -> None:
        items = [self._pop() for _ in range(number)]
        self._stack.append(tuple(reversed(items)))

    def _op_list(self, _: None) -> None:
        self._stack.append(self._pop_to_mark())

    def _op_append(self, _: None) -> None:
        self._extend([self._pop()])

    def _op_appends(self, _: None) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        found = self._stack[-1]
        if type(found) is list:
            found.extend(items)
        elif not isinstance(found, Skipped):
            raise RefusedError("items for what is no list")

    def _op_dict(self, _: None) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._update(items)

    def _op_setitem(self, _: None) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _op_setitems(self, _: None) -> None:
        self._update(self._pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        found = self._stack[-1]
        if not isinstance(found, Skipped):
            for key, value in zip(items[::2], items[1::2], strict=True):
                _set(found, key, value)

    # Names, and what is done with them.

    def _op_global(self, argument: str) -> None:
        self._stack.append(_find(*argument.split(" ", 1)))

    def _op_stack_global(self, _: None) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(_find(module, name))

    def _op_reduce(self, _: None) -> None:
        arguments, called = self._pop(), self._pop()
        if type(arguments) is not tuple:
            raise RefusedError("a call without arguments")
        if isinstance(called, _Name):
            # One opcode may copy what thousands have made: a call costs its arguments.
            sized = (one for one in arguments if isinstance(one, dict | list | tuple))
            self._count(len(arguments) + sum(map(len, sized)))
            self._stack.append(called.make(*arguments))
        else:
            self._stack.append(self._made_of(called))

    def _op_newobj(self, _: None) -> None:
        self._pop()
        self._stack.append(self._made_of(self._pop()))

    def _op_newobj_ex(self, _: None) -> None:
        self._pop()
        self._op_newobj(None)

    def _made_of(self, called: Any) -> Skipped:
        if not isinstance(called, Skipped):
            what = getattr(called, "name", type(called).__name__)
            raise RefusedError(f"a call of {what}, which makes nothing")
        return called

    def _op_build(self, _: None) -> None:
        """Drop a state: of what is skipped, or the notes beside a state dict."""
        self._pop()
        if not isinstance(self._stack[-1], dict | Tensor | Skipped):
            raise RefusedError("a state for what has none")

    def _op_binpersid(self, _: None) -> None:
        match self._pop():
            case ("storage", _Kind(kind), key, str() | bytes(), int() as count, *view):
                pass
            case _:
                raise RefusedError("a reference that is no storage of torch's")
        known = type(key) is str or (type(key) is int and key in _WHOLE_NUMBERS)
        if view not in ([], [None]) or not known or count not in _COUNTS:
            raise RefusedError("a storage that is a view of another one")
        storage = Storage(str(key), kind, count)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise RefusedError(f"two storages that are called {str(key)[:40]!r}")
        self._stack.append(storage)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NOTHING = {"PROTO", "FRAME"}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # texts of Python 2
}


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle as data.

    Args:
      stream: at its begin; afterwards behind its end.

    Returns:
      What it holds, of dictionaries, lists, tuples, numbers, texts, `Tensor`, `Storage`
      and `Skipped`; and the storages that it names, by key. A dictionary may hold
      itself.

    Raises:
      RefusedError: it is damaged, or names what is no part of a tensor.
    """
    machine = _Machine()
    return machine.run(stream), machine.storages
