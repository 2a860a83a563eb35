"""What `benchmarks.storage` measures, in a process whose gs:// leads to the fake.

A task is the name of a function here, and what it takes. What was asked of the fake
meanwhile is counted there.
"""

import contextlib
import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipeline.dataset_info import DatasetInfo, SplitInfo, load_info, write_info
from input_pipeline.in_order import finite
from input_pipeline.records import write_shard
from input_pipeline.stream import InputHost, Records, read_buffer
from train.checkpoints import bundle
from train.fault_tolerance import heartbeat

Done = dict[str, Any]  # "bytes"; of what reads images "images" and "seconds", too

_SEED = 1
_MOST_NUMBERS = 6200  # in a tensor
_RUN = "gs://run/one"
_STEP = 10


def make_shards(folder: str, *, shards: int, shard_bytes: int, record_bytes: int):
    """Write a data set of random bytes; its records differ in size, as photos do."""
    draws = random.Random(_SEED)
    os.makedirs(folder)
    infos = []
    for number in range(shards):
        left, contents = shard_bytes, []
        while left > 0:
            spread = draws.lognormvariate(0, 0.35)
            contents.append(draws.randbytes(min(left, round(record_bytes * spread))))
            left -= len(contents[-1])
        infos.append(write_shard(f"{folder}/train-{number:05d}", contents))
    split = SplitInfo(tuple(infos))
    write_info(DatasetInfo("random", 0, ("all",), {"train": split}), folder)


def training(files: str, images: int) -> Done:
    """Read one buffer of the shuffled stream; those that come next are not begun."""
    records = _records(files)
    images = min(images, records.total)
    buffers = tf.data.Dataset.range(1).map(
        lambda number: read_buffer(
            records, number, seed=_SEED, input_host=InputHost(), size=images
        )
    )
    return _sum(buffers.unbatch().map(lambda element: element["serialized"]))


def evaluation(files: str, images: int) -> Done:
    """Read the split once, in its order."""
    return _sum(finite(_records(files)).map(lambda element: element["serialized"]))


def plain(files: str, images: int) -> Done:
    """Read the split once as TensorFlow's guides do, in an order of the moment."""
    paths = _records(files).paths
    names = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), _SEED)
    found = names.interleave(
        tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE
    )
    return _sum(found.shuffle(1024, _SEED))


def _records(files: str) -> Records:
    data_dir = f"gs://data/{files}"
    return Records(load_info(data_dir), data_dir, "train")


def _sum(contents: tf.data.Dataset) -> Done:
    """Read to the end; the seconds are those behind the tracing."""
    began = time.monotonic()
    sizes = [len(content) for content in contents.as_numpy_iterator()]
    seconds = round(time.monotonic() - began, 3)
    return {"images": len(sizes), "bytes": sum(sizes), "seconds": seconds}


def write(tensors: int) -> Done:
    """Write a checkpoint, which is read back."""
    draws = random.Random(_SEED)
    names = draws.sample(range(tensors), tensors)
    values: dict[str, np.ndarray] = {
        f"v{n}": np.full(draws.randrange(_MOST_NUMBERS), n, np.float32) for n in names
    }
    values["step"] = np.array(_STEP)
    bundle.write(values, _RUN, run="benchmark")
    return {"bytes": sum(value.nbytes for value in values.values())}


def restore(_: int) -> Done:
    """Read a checkpoint as a run does that goes on."""
    values = bundle.read(f"{_RUN}/ckpt-{_STEP}")
    return {"bytes": sum(value.nbytes for value in values.values())}


def reader(_: int) -> Done:
    """Read it by TensorFlow's reader, tensor by tensor."""
    found = tf.train.load_checkpoint(f"{_RUN}/ckpt-{_STEP}")
    names = found.get_variable_to_shape_map()
    return {"bytes": sum(found.get_tensor(name).nbytes for name in names)}


def best(_: int) -> Done:
    """Keep a checkpoint as the best one."""
    path = f"{_RUN}/ckpt-{_STEP}"
    bundle.copy(path, f"{_RUN}/best")
    return {"bytes": bundle.read_manifest(path)["data_bytes"]}


def beat(_: int) -> Done:
    """Post a heartbeat in place of another."""
    post = heartbeat.Heartbeat(
        host=0,
        hostname="host",
        pid=1,
        phase="training",
        step=1,
        phase_seconds=1.0,
        time=0.0,
        state="running",
    )
    heartbeat.write(_RUN, post)
    return {"bytes": 0}


_READING = {task.__name__: task for task in (training, evaluation, plain)}
_WRITING = {task.__name__: task for task in (write, restore, reader, best, beat)}


def _ask(what: str, values: Any = None) -> Any:
    """Ask the fake itself something, past its own proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{os.environ['GCE_METADATA_HOST']}/_fake/{what}"
    with opener.open(url, json.dumps(values).encode()) as answer:
        return json.load(answer)


def measure(task: str, *, files: str, latency: float, count: int) -> dict[str, Any]:
    """Do a task, and count what it asks for.

    Args:
      task: name of a function here.
      files: the folder in gs://data, of those that read records.
      latency: seconds that each request waits.
      count: of images in a buffer of training, or of tensors.

    Returns:
      What the task returns, with requests by kind, bytes down and up, and the most
      requests in flight.
    """
    _ask("set", {"latency": latency})
    _ask("reset")
    done = _READING[task](files, count) if files else _WRITING[task](count)
    stats = _ask("stats")
    ops = stats["ops"]
    return {
        **done,
        "requests": {op: row["requests"] for op, row in sorted(ops.items())},
        "down": ops.get("read", {}).get("sent", 0),
        "up": sum(row["received"] for row in ops.values()),
        "most_in_flight": stats["most_in_flight"],
    }


def main() -> None:
    """Do the tasks of standard input, a JSON list; print what `measure` returns."""
    tasks: Sequence[dict[str, Any]] = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        found = [measure(**task) for task in tasks]
    print(json.dumps(found))
