"""What the digest of records costs in prepare: one line of JSON.

    python -m benchmarks.digest
    python -m benchmarks.digest --records=1000000 --record_bytes=1000 --repeats=1

Measures CPU seconds of writing TFRecords (`write_shard`), of reading them with every
CRC (`index_shard`), and of the whole `prepare tfrecords`, each with the digest and
without, in turns, in one process. How many bytes each asks the system for is counted,
too: more than the file has would be a second reading. The file lies in a temporary
folder, and mostly in the memory of the operating system.
"""

import argparse
import contextlib
import importlib.metadata
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.support import machine, results
from common import cli, console

# ImageNet's training images, in bytes on average, as records.
_IMAGENET = {"records": 1_281_167, "record_bytes": 110_000}
_FILE = "train-00000-of-00001"
_DIFFERENT = 64  # records; the others repeat them
_TASKS = ("write_shard", "index_shard", "prepare_tfrecords")
_DOES_NOT_SHOW = (
    "disks, buckets and networks, next to which it may be nothing; processors without "
    "SHA instructions, which take several times as long for the digest"
)


class Cost(NamedTuple):
    """CPU seconds of this process, and the bytes that it has asked the system for."""

    cpu_seconds: float
    read_bytes: int


class _NoDigest:
    """Stands in for `records.ContentDigest`."""

    def add(self, record: bytes) -> None:
        """Take note of nothing."""

    def hex(self) -> str:
        """Return what an older version has."""
        return ""


def measure(records: int, record_bytes: int, repeats: int) -> dict[str, Any]:
    """Return what the JSON says that is measured.

    Args:
      records: of the file.
      record_bytes: of each image; a record has about a hundred more.
      repeats: how often everything is measured.
    """
    costs: dict[tuple[str, bool], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tasks = _tasks(folder, records, record_bytes)
        for repeat in range(repeats):
            for name in _TASKS:
                # Whoever comes first may pay for the other.
                for digests in (True, False) if repeat % 2 else (False, True):
                    cost = _cost(tasks[name], digests)
                    costs.setdefault((name, digests), []).append(cost)
            console.say(f"repeat {repeat + 1}/{repeats}")
        size = Path(folder, _FILE).stat().st_size
    return {
        "file_bytes": size,
        "tasks": {
            name: _compared(costs[name, True], costs[name, False], size)
            for name in _TASKS
        },
    }


def _tasks(
    folder: str, count: int, record_bytes: int
) -> dict[str, Callable[[], object]]:
    from input_pipeline import records
    from input_pipeline.preparation import tfrecords

    path = str(Path(folder, _FILE))
    different = [_example(number, record_bytes) for number in range(_DIFFERENT)]

    def prepare() -> object:
        Path(folder, "dataset_info.json").unlink(missing_ok=True)
        return tfrecords.describe(tfrecords.Source(folder), workers=1)

    return {
        "write_shard": lambda: records.write_shard(
            path, (different[i % _DIFFERENT] for i in range(count))
        ),
        "index_shard": lambda: records.index_shard(path),
        "prepare_tfrecords": prepare,
    }


def _example(number: int, record_bytes: int) -> bytes:
    """Return a record with what looks like a JPEG: nobody decodes it."""
    from input_pipeline import image_formats, records

    return records.make_example(
        (image_formats.JPEG + os.urandom(record_bytes))[:record_bytes],
        label=1 + number,
        height=1,
        width=1,
        filename=f"{number}.JPEG",
        synset=f"n{number:08d}",
        text=f"class {number}",
    )


def _cost(task: Callable[[], object], digests: bool) -> Cost:
    with _without_digests() if not digests else contextlib.nullcontext():
        before = _used()
        task()
        after = _used()
    return Cost(
        after.cpu_seconds - before.cpu_seconds, after.read_bytes - before.read_bytes
    )


@contextlib.contextmanager
def _without_digests() -> Iterator[None]:
    from input_pipeline import records

    with mock.patch.object(records, "ContentDigest", _NoDigest):
        yield


def _used() -> Cost:
    counters = dict(
        line.split(": ") for line in Path("/proc/self/io").read_text().splitlines()
    )
    return Cost(time.process_time(), int(counters["rchar"]))


def _compared(with_it: list[Cost], without: list[Cost], size: int) -> dict[str, Any]:
    """Return medians, and what the digest adds for a gigabyte and for ImageNet."""
    pairs = list(zip(with_it, without, strict=True))
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in pairs]
    added = statistics.median(a.cpu_seconds - b.cpu_seconds for a, b in pairs)
    a_gigabyte = added / size * 1e9
    gigabytes = _IMAGENET["records"] * _IMAGENET["record_bytes"] / 1e9
    return {
        "cpu_seconds": _median(with_it),
        "cpu_seconds_without": _median(without),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "added_cpu_seconds_a_gigabyte": round(a_gigabyte, 3),
        "added_cpu_seconds_of_imagenet": round(a_gigabyte * gigabytes),
        "read_bytes_over_file_bytes": _read(with_it, size),
        "read_bytes_over_file_bytes_without": _read(without, size),
    }


def _read(costs: list[Cost], size: int) -> float:
    return round(max(cost.read_bytes for cost in costs) / size, 3)


def _median(costs: list[Cost]) -> float:
    return round(statistics.median(cost.cpu_seconds for cost in costs), 3)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.digest", __doc__)
    parser.add_argument(
        "--records", type=cli.positive, default=2000, help="of the file (2000)"
    )
    parser.add_argument(
        "--record_bytes",
        type=cli.positive,
        default=_IMAGENET["record_bytes"],
        help="of each image (110000, as ImageNet's)",
    )
    parser.add_argument("--repeats", type=cli.positive, default=5, help="(5)")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line of JSON."""
    hardware = machine.describe()  # before this benchmark is part of the load
    flags = dict(vars(arguments))
    output = flags.pop("output")
    report = {
        "benchmark": "digest",
        **measure(**flags),
        "settings": flags,
        "ratio_is": "CPU seconds with the digest over those without; median of the "
        "repeats' ratios",
        "imagenet": {
            **_IMAGENET,
            "is": "an extrapolation: what is added for a gigabyte, times its 141 GB",
        },
        "machine": hardware,
        "versions": {"tensorflow": importlib.metadata.version("tensorflow")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, output)


if __name__ == "__main__":
    sys.exit(main())
