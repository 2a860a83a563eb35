"""Writes tests/data/train/torch_files by torch's own hand.

    python -m tests.peers.make_torch_files FOLDER

Both forms of the same objects, and values.npz with what torch says is in them.
"""

import argparse
import collections
import datetime
import pathlib
import sys

import numpy as np
import torch  # pyright: ignore[reportMissingImports]


def _numbers():
    """A state dict of all types, shapes and strides that are read."""
    random = np.random.RandomState(7)
    base = torch.from_numpy(random.normal(size=(4, 6)).astype(np.float32))
    found = collections.OrderedDict()
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32"):
        found[name] = (100 * base).to(getattr(torch, name))
    for name in ("int16", "int8", "uint8"):
        found[name] = (10 * base.abs()).to(getattr(torch, name))
    found["bool"] = base > 0
    found["transposed"] = base.t()
    found["bfloat16_transposed"] = base.to(torch.bfloat16).t()
    found["strided"] = base[1::2, ::3]
    found["offset"] = base[2]
    found["scalar"] = torch.tensor(3.5)
    found["empty"] = torch.zeros(3, 0)
    found["channels_last"] = torch.from_numpy(
        random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    ).contiguous(memory_format=torch.channels_last)
    found["parameter"] = torch.nn.Parameter(base + 1)
    return found


def _checkpoint():
    """What a training program may write: weights among much else."""
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    average = {f"module.{n}": v + 1 for n, v in layer.state_dict().items()}
    return {
        "epoch": 7,
        "arch": "linear",
        "state_dict": layer.state_dict(),
        "state_dict_ema": collections.OrderedDict(average),
        "optimizer": optimizer.state_dict(),
        "best": np.float64(0.75),
        "history": np.arange(3, dtype=np.float32),
        "args": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("out")),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "size": torch.Size([2, 3]),
        "when": datetime.datetime(2024, 1, 2),
        "classes": {"a", "b"},
        "counts": collections.defaultdict(list, {"a": [1]}),
        "large": 2**80,
        "metric": None,
    }


def main(folder):
    """Write the files."""
    torch.manual_seed(0)
    numbers, checkpoint = _numbers(), _checkpoint()
    for name, value in (("numbers", numbers), ("checkpoint", checkpoint)):
        torch.save(value, folder / f"{name}-zip.pth")
        torch.save(
            value, folder / f"{name}-legacy.pth", _use_new_zipfile_serialization=False
        )
    tensors = {**numbers, **checkpoint["state_dict"], **checkpoint["state_dict_ema"]}
    values = {name: value.detach() for name, value in tensors.items()}
    for name, value in values.items():
        if value.dtype == torch.bfloat16:  # numpy has none
            values[name] = value.float()
    np.savez_compressed(
        folder / "values.npz", **{name: value.numpy() for name, value in values.items()}
    )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
