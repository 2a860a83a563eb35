"""What the processes of prepare cost: memory, and seconds, in one line of JSON.

    python -m benchmarks.photos --output DIR
    python -m benchmarks.prepare_workers --source DIR --workers=1,2,16,96

Prepares a folder of images once for each number of processes. Memory is the largest sum
of the PSS of all processes, in which what several share counts once.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from common import cli, console
from common.errors import UserError
from common.project import ROOT

_POLL_SECONDS = 0.1


def _counts(text: str) -> list[int]:
    return [cli.positive(name) for name in cli.names(text)]


def _measure(source: str, workers: int, shards: int) -> dict[str, Any]:
    """Return a row of the report."""
    with tempfile.TemporaryDirectory() as folder:
        output, begin = Path(folder, "data"), time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "input_pipeline.prepare", "imagefolder"),
                *("--source", source, "--output", str(output)),
                *("--workers", str(workers), "--shards", str(shards)),
            ],
            cwd=ROOT,
            start_new_session=True,  # by which its processes are found
            stdout=subprocess.DEVNULL,
        )
        first, memory, most = None, 0, 0
        while process.poll() is None:
            sizes = list(_pss(process.pid))
            memory, most = max(memory, sum(sizes)), max(most, len(sizes))
            if first is None and any(output.glob("train-*")):
                first = time.perf_counter() - begin
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - begin
        if process.returncode:
            raise UserError(f"prepare ended with {process.returncode}")
        info = json.loads((output / "dataset_info.json").read_text())
    images = sum(split["total"] for split in info["splits"].values())
    return {
        "workers": workers,
        "processes": most,
        "pss_megabytes": round(memory / 2**20),
        "first_file_seconds": None if first is None else round(first, 1),
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _pss(session: int) -> Iterator[int]:
    """Yield the proportional set size, in bytes, of each process of a session."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            if os.getsid(int(folder.name)) != session:
                continue
            text = (folder / "smaps_rollup").read_text()
            if found := re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE):
                yield 1024 * int(found[1])


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.prepare_workers", __doc__)
    parser.add_argument(
        "--source", type=cli.path, required=True, help="a folder of images, by class"
    )
    parser.add_argument(
        "--workers", type=_counts, default=[1, 2, 16, 96], help="1,2,16,96"
    )
    parser.add_argument("--shards", type=cli.positive, default=96, help="files (96)")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure each number of processes, and print what they cost."""
    hardware = machine.describe()
    rows = []
    for workers in arguments.workers:
        rows.append(_measure(arguments.source, workers, arguments.shards))
        console.say(", ".join(f"{name}: {value}" for name, value in rows[-1].items()))
    report = {
        "benchmark": "prepare_workers",
        "rows": rows,
        "machine": hardware,
        "versions": {"tensorflow": metadata.version("tensorflow")},
        "does_not_show": "other disks, and images of other sizes",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
