"""Files of torch's (.pth, .pt, .bin), read without torch.

There are two forms. The older one is five pickles, one behind the other (a magic
number, the version, a description of the machine, the object and the keys of its
storages), and behind them each storage: its number of elements as int64, then these.
The newer one is a zip archive, nothing in it compressed: data.pkl holds the object, and
a file data/KEY each storage. Source: torch/serialization.py of 2.13.
"""

import contextlib
import functools
import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common import console
from train.weights import pickles
from train.weights.pickles import DamagedError, RefusedError, Storage, Tensor

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_PICKLE = "data.pkl"
_ENCRYPTED = 1
_HEADER_BYTES = 30  # before a member's names and, in a zip archive, its bytes
# bfloat16, which numpy does not know, is the upper half of a float32.
_DTYPES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
_MOST_DIMENSIONS = 32
# Under which key training programs have the weights, and moving averages of these.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WEIGHTS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_MOST_WRAPPERS = 4
# Tensors may share their numbers, as a file of a few bytes: together they are not
# larger than this and twice the file.
_SHARED_BYTES = 2**24

_Read = Callable[[Storage], bytes | memoryview]


class StateDict(NamedTuple):
    """The weights in a file.

    Attributes:
      tensors: by name; each is made when it is asked for.
      skipped: names of what lies beside them, the outermost first.
      within: the keys under which they lie.
    """

    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...]
    within: tuple[str, ...]
    read: Callable[[str], np.ndarray]


def read(content: bytes, *, averaged: bool = True) -> StateDict:
    """Return the state dict in a file of torch's.

    Args:
      content: all of the file.
      averaged: take the moving averages, if there are any beside the weights.

    Raises:
      RefusedError: it is damaged, or holds what no weights are made of. Nothing in it
        was run, and nothing larger than the file allocated.
    """
    found, storages, storage = (
        _open_zip(content) if content.startswith(_ZIP) else _open_legacy(content)
    )
    state, skipped, within = _unwrapped(found, averaged)
    tensors = {n: v for n, v in state.items() if isinstance(v, Tensor)}
    skipped += [str(name) for name in state if name not in tensors]
    named = {name: tensor for name, tensor in tensors.items() if type(name) is str}
    if not named:
        keys = [name[:40] for name in state if type(name) is str]
        raise RefusedError(
            "no dictionary of tensors"
            + (f", but {console.named(keys)}" if keys else "")
        )
    together = sum(_check(name, one, storages) for name, one in named.items())
    if together > _SHARED_BYTES + 2 * len(content):
        raise RefusedError(f"tensors of {together:,} bytes in {len(content):,}")
    return StateDict(
        named,
        tuple(skipped),
        tuple(within),
        lambda name: _array(named[name], storage),
    )


def _unwrapped(found: Any, averaged: bool) -> tuple[dict[Any, Any], list[str], list]:
    """Return the dictionary of the weights, what lies beside, and the keys to it."""
    keys = (*_AVERAGES, *_WEIGHTS) if averaged else _WEIGHTS
    skipped: list[str] = []
    within: list[str] = []
    looked_at: dict[tuple[int, int], bool] = {}
    for _ in range(_MOST_WRAPPERS):
        if type(found) is not dict:
            break
        inner = [key for key in keys if _holds_tensors(found.get(key), looked_at)]
        if not inner:
            return found, skipped, within
        skipped += [str(key) for key in found if key != inner[0]]
        within.append(inner[0])
        found = found[inner[0]]
    raise RefusedError("no dictionary of tensors")


def _holds_tensors(
    value: Any, looked_at: dict[tuple[int, int], bool], depth: int = _MOST_WRAPPERS
) -> bool:
    """Whether this is a dictionary of tensors, or wraps one.

    Args:
      value: anything in a pickle.
      looked_at: what was found before, by object and depth: many may hold the same.
      depth: how far to look into it.
    """
    if type(value) is not dict or not depth:
        return False
    place = id(value), depth
    if place not in looked_at:
        inner = (value.get(key) for key in (*_AVERAGES, *_WEIGHTS))
        looked_at[place] = any(isinstance(one, Tensor) for one in value.values()) or (
            any(_holds_tensors(one, looked_at, depth - 1) for one in inner)
        )
    return looked_at[place]


# One tensor.


def _check(name: str, tensor: Tensor, storages: Mapping[str, Storage]) -> int:
    """Return how many bytes a tensor takes.

    Raises:
      RefusedError: it is no view of numbers that the file has.
    """
    storage, offset, size, stride = tensor
    what = f"the tensor {name[:100]}"
    if not isinstance(storage, Storage) or storage != storages.get(storage.key):
        raise RefusedError(f"{what} without numbers")
    if not (_are_whole([offset]) and _are_whole(size) and _are_whole(stride)):
        raise RefusedError(f"{what} whose sides are no whole numbers, or too many")
    if len(size) != len(stride):
        raise RefusedError(
            f"{what} of {len(size)} dimensions and {len(stride)} strides"
        )
    elements = math.prod(size)
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    end = offset + (last + 1 if elements else 0)
    # numpy multiplies the sides of what is empty, too, but for zeros.
    beyond = not elements and math.prod(n for n in size if n) >= 2**60
    if end > storage.elements or elements > storage.elements or beyond:
        sides = " x ".join(map(_shown, size))
        raise RefusedError(
            f"{what} of {sides}, of which the file has {storage.elements:,}"
        )
    return elements * np.dtype(_DTYPES[storage.kind]).itemsize


def _are_whole(numbers: Any) -> bool:
    return (
        isinstance(numbers, tuple | list)
        and len(numbers) <= _MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
    )


def _shown(number: int) -> str:
    return f"{number:,}"


def _array(tensor: Tensor, storage: _Read) -> np.ndarray:
    """Return a tensor's numbers, which `_check` has found to be there."""
    kind = tensor.storage.kind
    flat = np.frombuffer(storage(tensor.storage), _DTYPES[kind])
    # Where there is no next element, the stride may be of any length.
    none = 0 in tensor.size
    strides = [
        0 if none or n == 1 else step * flat.itemsize
        for n, step in zip(tensor.size, tensor.stride, strict=True)
    ]
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, strides, writeable=False
    )
    if kind == "BFloat16":
        return (view.astype("<u4") << 16).view("<f4")
    return view.copy()


def _bytes(storage: Storage) -> int:
    return storage.elements * np.dtype(_DTYPES[storage.kind]).itemsize


# The two forms.


def _open_zip(content: bytes) -> tuple[Any, Mapping[str, Storage], _Read]:
    with _reading_zip():
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = _members(archive)
        root = _root(members)
        order = members.get(f"{root}byteorder")
        if order and archive.read(order) != b"little":
            raise RefusedError("numbers whose bytes are in another order")
        data = archive.read(members[f"{root}{_PICKLE}"])
    found, storages = pickles.load(io.BytesIO(data))
    for one in storages.values():
        member = members.get(f"{root}data/{one.key}")
        there = member.file_size if member else 0
        if there != _bytes(one):
            raise RefusedError(
                f"{_bytes(one):,} bytes for the storage {one.key[:40]}, and {there:,} "
                "there"
            )

    @functools.cache  # thousands of tensors may be views of one
    def storage(one: Storage) -> bytes | memoryview:
        if not one.elements:  # which may have no member
            return b""
        member = members[f"{root}data/{one.key}"]
        with _reading_zip():
            data = archive.read(member)  # its check sum is compared
            names = struct.unpack_from("<HH", content, member.header_offset + 26)
        start = member.header_offset + _HEADER_BYTES + sum(names)
        there = memoryview(content)[start : start + _bytes(one)]
        if data != there:
            raise DamagedError(f"{len(data):,} bytes for the storage {one.key[:40]}")
        return there

    return found, storages, storage


@contextlib.contextmanager
def _reading_zip() -> Iterator[None]:
    """Say what Python finds wrong with an archive."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        NotImplementedError,  # a form of archives that Python cannot read
        RuntimeError,  # a password, after all
        ValueError,
        OverflowError,
        EOFError,
        struct.error,
    ) as error:
        words = str(error).partition("\n")[0][:100]
        raise DamagedError(f"a zip archive that is damaged ({words})") from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return what is in an archive, by name; nothing of it is ever unpacked."""
    found: dict[str, zipfile.ZipInfo] = {}
    for one in archive.infolist():
        what = f"the member {one.filename[:100]!r}"
        if "/code/" in one.filename:
            raise RefusedError(f"a program of TorchScript ({what})")
        if one.filename in found:
            raise RefusedError(f"a zip archive that has {what} twice")
        if one.flag_bits & _ENCRYPTED:
            raise RefusedError(f"a zip archive with a password ({what})")
        if one.compress_type != zipfile.ZIP_STORED or one.file_size != (
            one.compress_size
        ):
            raise RefusedError(
                f"a zip archive that torch has not written: {what} is packed"
            )
        found[one.filename] = one
    return found


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    """Return the folder in which everything lies."""
    roots = [
        name.removesuffix(_PICKLE)
        for name in members
        if name.endswith(f"/{_PICKLE}") and name.count("/") == 1
    ]
    if len(roots) != 1:
        raise RefusedError(
            f"a zip archive with {len(roots)} files {_PICKLE}, which torch has not "
            "written"
        )
    return roots[0]


def _open_legacy(content: bytes) -> tuple[Any, Mapping[str, Storage], _Read]:
    stream = io.BytesIO(content)
    if _plain(stream) != _MAGIC:
        raise RefusedError(
            "no tensors of torch's: neither its zip archive nor its pickles"
        )
    if (version := _plain(stream)) != _VERSION:
        raise RefusedError(
            f"the unknown version {_said(version)[:40]} of torch's pickles"
        )
    machine = _plain(stream)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise RefusedError("numbers whose bytes are in another order")
    found, storages = pickles.load(stream)
    keys = _plain(stream)
    names = [_said(key) for key in keys] if type(keys) is list else []
    if type(keys) is not list or len({*names}) != len(names):
        raise RefusedError("no list of its storages")
    places = _places(content, stream.tell(), names, storages)
    if missing := [key for key in storages if key not in places]:
        raise RefusedError(f"no numbers of the storage {missing[0][:40]}")

    def storage(one: Storage) -> memoryview:
        start = places[one.key]
        return memoryview(content)[start : start + _bytes(one)]

    return found, storages, storage


def _said(value: Any) -> str:
    """Return a text or number as it is, of all else the kind.

    A list may hold itself a billion times: nobody could say it.
    """
    if type(value) is str:
        return value
    if type(value) is int and abs(value) < 2**64:
        return str(value)
    return type(value).__name__


def _plain(stream: io.BytesIO) -> Any:
    """Return what a pickle without storages holds."""
    found, storages = pickles.load(stream)
    if storages:
        raise RefusedError("tensors where torch has none")
    return found


def _places(
    content: bytes, start: int, keys: Sequence[str], storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Return where each storage begins, by key."""
    found = {}
    for key in keys:
        if key not in storages:
            raise RefusedError(f"numbers that no tensor has, of the storage {key[:40]}")
        one = storages[key]
        if start + 8 + _bytes(one) > len(content):
            raise DamagedError("fewer numbers than it says")
        (count,) = struct.unpack_from("<q", content, start)
        if count != one.elements:
            raise RefusedError(
                f"a storage of {one.elements:,} numbers and of {count:,} at once"
            )
        found[key] = start + 8
        start += 8 + _bytes(one)
    return found
