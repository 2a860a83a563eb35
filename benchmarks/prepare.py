"""What prepare and validate cost an image, beside what others do with the same tars.

    python -m benchmarks.prepare --output=benchmarks/results/prepare.json

Tars in ImageNet's form are made up, of photographs of its usual size. All sides turn
them into records, one process each: `prepare imagenet`; what the TPU repository's
imagenet_to_gcs.py does; and TFDS' imagenet2012 builder, which does not look at the
images. `validate` stands beside a loop that parses and decodes each record. Cost is CPU
seconds of the process and its children; what is loaded once does not count. With
--workers prepare is run once for each number of processes, too, for the memory that
they take together.

Exit status: 0 prepare handles 1.5 times as many images as the TPU repository's script
in a CPU second, or more; 1 it does not; 2 there is no answer.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.support import machine, prepare_sides, results
from common import cli, console
from common.errors import Status, UserError
from common.project import ROOT

GOAL = 1.5
_FEW = 40  # images, with which a side loads what it needs
_PHOTOS = 128
_POLL_SECONDS = 0.1
SIDES = ("ours", "tpu_script", "tfds", *prepare_sides.READERS)
_DOES_NOT_SHOW = "disks, images of other sizes, or many processes at once"


def _run(side: str, few: Path, many: Path) -> float:
    """Return the CPU seconds that a side takes for the many."""
    with tempfile.TemporaryDirectory(dir=many) as output:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.support.prepare_sides"),
                *(side, str(few), str(many), output),
            ],
            cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise UserError(f"{side} has failed: {done.stderr.strip()[-2000:]}")
    return float(done.stdout.split()[-1])


def compare(folder: Path, images: int, rounds: int) -> dict[str, Any]:
    """Return what the sides cost, and the ratios, each of one round's own.

    Args:
      folder: to write to.
      images: of the larger tars.
      rounds: of all sides.
    """
    sizes = (_FEW, images)
    jpegs = [path.read_bytes() for path in _photos(folder / "photos")]
    for size in sizes:
        tars = folder / f"tars-{size}"
        tars.mkdir()
        prepare_sides.write_tars(jpegs, size, tars)
    found = []
    few, many = (folder / f"tars-{size}" for size in sizes)
    for number in range(rounds):
        found.append({side: 1e3 * _run(side, few, many) / images for side in SIDES})
        console.say(f"round {number + 1} of {rounds}: {_said(found[-1])}")
    ratios = {
        name: [one[theirs] / one[ours] for one in found]
        for name, theirs, ours in (
            ("tpu_script", "tpu_script", "ours"),
            ("tfds", "tfds", "ours"),
            ("validate", "decoded", "validate"),
        )
    }
    return {
        "images": images,
        "image_bytes": round(statistics.mean(map(len, jpegs))),
        "ms_an_image": {side: [one[side] for one in found] for side in SIDES},
        "ratios": ratios,
    }


def _said(costs: dict[str, float]) -> str:
    return ", ".join(f"{side} {ms:.2f} ms" for side, ms in costs.items())


def _photos(folder: Path) -> list[Path]:
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.photos"),
            *("--output", str(folder), "--images", str(_PHOTOS)),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return sorted(folder.rglob("*.jpg"))


def _memory(tars: Path, workers: int) -> dict[str, Any]:
    """Return what so many processes take together, and how long."""
    with tempfile.TemporaryDirectory() as folder:
        output, begin = Path(folder, "data"), time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "input_pipeline.prepare", "imagenet"),
                *("--train_tar", str(tars / prepare_sides.TRAIN)),
                *("--output", str(output), "--shards", "96"),
                *("--workers", str(workers)),
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
    return {
        "workers": workers,
        "processes": most,
        "pss_megabytes": round(memory / 2**20),
        "first_file_seconds": None if first is None else round(first, 1),
        "seconds": round(seconds, 1),
    }


def _pss(session: int) -> Iterator[int]:
    """Yield the proportional set size, in bytes, of each process of a session.

    What several share counts once in their sum.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            if os.getsid(int(folder.name)) != session:
                continue
            text = (folder / "smaps_rollup").read_text()
            if found := re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE):
                yield 1024 * int(found[1])


def _counts(text: str) -> list[int]:
    return [cli.positive(name) for name in cli.names(text)]


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.prepare", __doc__)
    add = parser.add_argument
    add("--images", type=cli.positive, default=1000, help="of the tars (%(default)s)")
    add("--rounds", type=cli.positive, default=3, help="of all sides (%(default)s)")
    add("--workers", type=_counts, default=[], help="as 1,2,16,96: their memory")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Measure, and print what each side costs."""
    if arguments.images <= _FEW:
        raise UserError(f"--images={arguments.images}: more than {_FEW} are needed")
    hardware = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), arguments.images, arguments.rounds)
        tars = Path(folder, f"tars-{arguments.images}")
        memory = [_memory(tars, workers) for workers in arguments.workers]
    names = ("tensorflow", "tensorflow-datasets", "pillow")
    report = {
        "benchmark": "prepare",
        **found,
        "goal": GOAL,
        "processes": memory,
        "machine": hardware,
        "versions": {name: metadata.version(name) for name in names},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    reached = statistics.median(found["ratios"]["tpu_script"]) >= GOAL
    return Status.OK if reached else Status.NO


if __name__ == "__main__":
    sys.exit(main())
