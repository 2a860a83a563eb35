"""Writes what torch writes, and what it never would, without torch."""

import io
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {
    "protocol_version": VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
KINDS = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


class Name(NamedTuple):
    """A global, which need not exist."""

    module: str
    name: str


class Call(NamedTuple):
    """A call of a global."""

    called: object
    arguments: tuple


class Reference(NamedTuple):
    """A persistent id."""

    pid: object


class Raw(NamedTuple):
    """Opcodes as they are."""

    opcodes: bytes


# The pure Python one: that in C could not be taught names that do not exist.
class _Pickler(pickle._Pickler):  # pyright: ignore[reportAttributeAccessIssue]
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Name):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.called)
            self.save(obj.arguments)
            self.write(b"R")
        elif isinstance(obj, Reference):
            self.save(obj.pid)
            self.write(b"Q")
        elif isinstance(obj, Raw):
            self.write(obj.opcodes)
        else:
            super().save(obj, save_persistent_id)


def dumps(value):
    """Return a pickle, as torch's of protocol 2."""
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


def storage(key, kind="Float", count=4, name=None):
    name = name or Name("torch", f"{kind}Storage")
    return Reference(("storage", name, key, "cpu", count))


def tensor(of, offset=0, size=(4,), stride=(1,)):
    hooks = Call(Name("collections", "OrderedDict"), ())
    arguments = (of, offset, size, stride, False, hooks)
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


def tensors(arrays):
    """Return a dictionary to pickle for arrays by name, and the storages' bytes."""
    found, data = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        array = np.asarray(array)
        one = storage(str(key), KINDS[array.dtype.name], array.size)
        strides = [n // array.itemsize for n in np.ascontiguousarray(array).strides]
        size = tuple(array.shape)
        found[name] = tensor(one, 0, size, tuple(strides[: len(size)]))
        data[str(key)] = array.tobytes()
    return found, data


def zipped(value, data, *, root="archive/", members=()):
    """Return a file of torch's newer form.

    Args:
      value: to pickle, or a pickle.
      data: bytes of the storages by key.
      root: folder in the archive.
      members: more of it: names and bytes.
    """
    stream = io.BytesIO()
    content = value if isinstance(value, bytes) else dumps(value)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{root}data.pkl", content)
        archive.writestr(f"{root}byteorder", "little")
        for key, one in data.items():
            archive.writestr(f"{root}data/{key}", one)
        archive.writestr(f"{root}version", "3\n")
        for name, one in members:
            archive.writestr(name, one)
    return stream.getvalue()


def legacy(value, data, *, keys=None, counts=None, machine=MACHINE):
    """Return a file of torch's older form; `counts` are those before the numbers."""
    content = value if isinstance(value, bytes) else dumps(value)
    parts = [dumps(MAGIC), dumps(VERSION), dumps(machine), content]
    parts.append(dumps(list(data) if keys is None else keys))
    for key, one in data.items():
        count = len(one) // 4 if counts is None else counts[key]
        parts += [struct.pack("<q", count), one]
    return b"".join(parts)
