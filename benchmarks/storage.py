"""What reading and writing gs:// takes, in bytes and requests: one line of JSON.

    python -m benchmarks.storage

TensorFlow's own client speaks to the tests' fake of Google Cloud Storage, on loopback.
Each side has a process of its own: ours as any command starts, and ours in TensorFlow's
own settings, beside a plain tf.data pipeline and TensorFlow's reader of checkpoints.
Bytes and requests are exact; seconds are the fake's, but for what only waits.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.errors import UserError
from common.project import ROOT

OURS, DEFAULT = "ours", "TensorFlow's settings"
# What TensorFlow takes where nobody says anything, said.
_ENVIRONMENTS = {
    OURS: {},
    DEFAULT: {"GCS_READAHEAD_BUFFER_SIZE_BYTES": str(64 << 20)},
}
_SETTINGS = ("GCS_READ_CACHE_BLOCK_SIZE_MB", "GCS_READ_CACHE_MAX_SIZE_MB")
# As a command does: the environment is set before TensorFlow is imported.
_CODE = "import train; from benchmarks.support import storage_sides as s; s.main()"
_SHARDS = 2
_SMALL, _SMALL_BYTES, _SMALL_RECORD = "digits", 690_000, 1380
# Images for which a chunk's 64 MiB are fetched: more would only take longer.
_DEAR_IMAGES = 160
_BEATS_AN_HOUR = 360
_CHECKPOINT = ("write", "restore", "best", "reader", "beat")
_WAIT_SECONDS = 0.2  # for a request, where waiting is to be all that it takes
_LATENCIES_MS = (20, 30, 50)
_CHUNK_IMAGES, _CHUNK_REQUESTS = 16, 2
# Chunks in flight on a host of 16 cores or more, see input_pipeline.stream.
_MOST_IN_FLIGHT = 96

Found = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StorageSettings:
    """What is read.

    Attributes:
      shard_mb: sizes of files, in MB, of which there are two.
      record_kb: of a record of those, on average.
      images: of a buffer of training.
      tensors: of a checkpoint; 650 are a narrow X-B0, with averages and slots.
      latency_ms: until a request is answered, where that is measured.
    """

    shard_mb: tuple[int, ...] = (75, 138)
    record_kb: int = 104
    images: int = 1024
    tensors: int = 650
    latency_ms: int = 30


def measure(settings: StorageSettings) -> dict[str, Any]:
    """Return what the JSON says that is measured."""
    # Of the tests: they prove that it answers as Google's does.
    from tests.support import fake_gcs

    with tempfile.TemporaryDirectory() as folder:
        files = _make_files(settings, f"{folder}/data")
        options: dict[str, Any] = {"writes_per_second": 0}
        server, store, environment = fake_gcs.serve(folder, **options)
        try:
            fake_gcs.load(store, f"data={folder}/data")
            fake_gcs.load(store, "run")
            found = {
                side: _run(_tasks(settings, files, side), environment | variables)
                for side, variables in _ENVIRONMENTS.items()
            }
        finally:
            server.shutdown()
            server.server_close()
    return {
        "reading": [
            {"files": row["files"], "what": row["task"], "side": side, **_cost(row)}
            for side, rows in found.items()
            for row in rows
            if "images" in row and not row["latency"]
        ],
        "checkpoint": [
            {"what": row["task"], "side": side, **_cost(row)}
            for side, rows in found.items()
            for row in rows
            if row["task"] in _CHECKPOINT[:-1]
        ],
        "heartbeat_requests_per_hour": _BEATS_AN_HOUR * _beat(found[OURS]),
        "waiting": _waiting([row for row in found[OURS] if row["latency"]]),
    }


def _make_files(settings: StorageSettings, folder: str) -> list[str]:
    """Write the data sets; return their names."""
    from benchmarks.support.storage_sides import make_shards

    sizes = {
        f"{mb} MB": (mb * 10**6, settings.record_kb * 1000) for mb in settings.shard_mb
    }
    sizes[_SMALL] = (_SMALL_BYTES, _SMALL_RECORD)
    for name, (shard, record) in sizes.items():
        make_shards(
            f"{folder}/{name}",
            shards=_SHARDS,
            shard_bytes=shard,
            record_bytes=record,
        )
    return list(sizes)


def _tasks(
    settings: StorageSettings, files: Sequence[str], side: str
) -> list[dict[str, Any]]:
    """Return what a side does, in order."""
    images = settings.images
    few = min(_DEAR_IMAGES, images) if side == DEFAULT else images
    kinds = ("training", "evaluation", *(("plain",) if side == DEFAULT else ()))
    tasks = [
        {"task": kind, "files": name, "count": few if name != _SMALL else images}
        for name in files
        for kind in kinds
    ]
    tasks += [{"task": kind} for kind in (*_CHECKPOINT, "beat")]
    if side == OURS:
        waits = {_SMALL: _WAIT_SECONDS, files[0]: settings.latency_ms / 1000}
        tasks += [
            {"task": "training", "files": name, "count": images, "latency": seconds}
            for name, seconds in waits.items()
        ]
    defaults = {"files": "", "latency": 0.0, "count": settings.tensors}
    return [{**defaults, **task} for task in tasks]


def _run(tasks: Sequence[Found], variables: Mapping[str, str]) -> list[Found]:
    """Do tasks in a process of their own, in which gs:// is the fake."""
    kept = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    process = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps(tasks),
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise UserError(f"the process that reads has failed: {process.stderr[-2000:]}")
    found = json.loads(process.stdout)
    return [{**task, **one} for task, one in zip(tasks, found, strict=True)]


def _cost(row: Found) -> dict[str, Any]:
    """Return what a task took for each byte, and for each image if it read some."""
    cost = {
        "bytes": row["bytes"],
        "fetched": round(row["down"] / row["bytes"], 3),
        "sent": round(row["up"] / row["bytes"], 3),
        "requests": sum(row["requests"].values()),
        "reads": row["requests"].get("read", 0),
    }
    if "images" in row:
        cost["reads_per_image"] = round(cost["reads"] / row["images"], 4)
    return cost


def _beat(rows: Sequence[Found]) -> int:
    """Return the requests of a heartbeat that is not the first."""
    return [sum(row["requests"].values()) for row in rows if row["task"] == "beat"][-1]


def _waiting(rows: Sequence[Found]) -> dict[str, Any]:
    """Return how many images/s training reads where each request has to wait."""
    small, photos = rows
    in_flight = small["most_in_flight"]
    rate = small["images"] / small["seconds"]
    return {
        "in_flight_of_a_buffer": in_flight,
        "images_per_second_at_200_ms": round(rate, 1),
        "of_what_waiting_allows": round(rate / _allowed(in_flight, _WAIT_SECONDS), 3),
        "images_per_second_of_the_fake": round(photos["images"] / photos["seconds"], 1),
        "waiting_allows_images_per_second": {
            f"{ms} ms": {
                "this machine": round(_allowed(2 * in_flight, ms / 1000)),
                "16 cores or more": round(_allowed(_MOST_IN_FLIGHT, ms / 1000)),
            }
            for ms in _LATENCIES_MS
        },
        "is": "two requests a chunk of 16 images, one after the other; two buffers are "
        "read at a time, of which one was measured; the bytes' own time comes on top",
    }


def _allowed(in_flight: int, seconds: float) -> float:
    """Return images/s if requests only waited."""
    return in_flight * _CHUNK_IMAGES / (_CHUNK_REQUESTS * seconds)


def _megabytes(text: str) -> tuple[int, ...]:
    return tuple(cli.positive(one) for one in cli.names(text))


def _parser() -> argparse.ArgumentParser:
    default = StorageSettings()
    parser = results.parser("benchmarks.storage", __doc__)
    parser.add_argument(
        "--shard_mb",
        type=_megabytes,
        default=default.shard_mb,
        help="sizes of the files, in MB, between commas (75,138)",
    )
    parser.add_argument(
        "--images", type=cli.positive, default=default.images, help="of a buffer (1024)"
    )
    parser.add_argument(
        "--latency_ms",
        type=cli.positive,
        default=default.latency_ms,
        help="of a request, where images/s are measured (30)",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line of JSON."""
    hardware = machine.describe()  # before this benchmark is part of the load
    flags = dict(vars(arguments))
    output = flags.pop("output")
    settings = StorageSettings(**flags)
    report = {
        "benchmark": "storage",
        **measure(settings),
        "settings": dataclasses.asdict(settings),
        "machine": hardware,
        "versions": {"tensorflow": importlib.metadata.version("tensorflow")},
        "does_not_show": "Google's storage and its network; seconds, but for those of "
        "waiting; slices, whose workers read in an environment of their own",
    }
    results.publish(report, output)


if __name__ == "__main__":
    sys.exit(main())
