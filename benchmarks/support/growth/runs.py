"""A run's steps: its numbers, its progress, its checkpoints, a process that goes on.

A loop is taken for ten steps: a million of them are 100,000 loops.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.support.growth.case import Case, Handle

if TYPE_CHECKING:
    from train.telemetry.telemetry import Telemetry

LOOP_STEPS = 10
_FLUSH_LOOPS = 3  # so many loops come to a flush's half minute
STEPS = (1_000, 10_000, 100_000)
BUCKET_STEPS = (300, 1_000, 3_000)
ROWS = (10_000, 100_000, 1_000_000)  # of loops as they are written


def _telemetry(folder: str, *, writes: bool = True) -> "Telemetry":
    from train.telemetry.telemetry import Telemetry

    return Telemetry(
        folder, global_batch_size=8, replicas=1, peak_teraflops=1.0, writes=writes
    )


def _loop(step: int) -> Any:
    from train.metrics import LoopOutput

    return LoopOutput(
        step=step,
        steps=LOOP_STEPS,
        seconds=1.0,
        step_seconds=np.full(LOOP_STEPS, 0.1),
        wait_seconds=0.01,
        loss=1.5,
        top1=0.25,
        learning_rate=0.5,
        gradient_norm=2.0,
        gradient_norm_max=3.0,
        weight_norm=40.0,
        ema_decay=0.99,
        skipped_records=0,
        images=8 * LOOP_STEPS,
    )


def _numbers(steps: int, folder: str) -> None:
    """Write what a run of so many steps says of its loops."""
    with _telemetry(folder) as numbers:
        numbers.start(0, "")
        for loop in range(1, steps // LOOP_STEPS + 1):
            numbers.loop(_loop(loop * LOOP_STEPS), macs_per_image=1e9)
            if loop % _FLUSH_LOOPS == 0:
                numbers.flush()


def _on_a_disk(steps: int, folder: Path) -> Handle:
    from train.telemetry import growing

    def handle() -> int:
        with _counting_writes(growing) as written:
            _numbers(steps, str(folder))
        events = sum(path.stat().st_size for path in (folder / "train").iterdir())
        return written() + events

    return handle


@contextlib.contextmanager
def _counting_writes(module: Any) -> Iterator[Any]:
    """Count the bytes that files are added to, or written anew with."""
    from common import gfiles

    total, write, write_bytes = [0], module._write, gfiles.write_bytes

    def added(file: int, data: bytes) -> None:
        total[0] += len(data)
        write(file, data)

    def anew(path: str, data: bytes, **options: Any) -> None:
        total[0] += len(data)
        write_bytes(path, data, **options)

    module._write, gfiles.write_bytes = added, anew
    try:
        yield lambda: total[0]
    finally:
        module._write, gfiles.write_bytes = write, write_bytes


class _Bucket:
    """One for all sizes: TensorFlow remembers the first that a process has met."""

    def __init__(self) -> None:
        self._store: Any = None
        self._runs = 0

    def numbers(self, steps: int, folder: Path) -> Handle:
        """Return what writes a run's numbers in it, and counts what it is sent."""
        if self._store is None:
            # Of the tests: they prove that it answers as Google's does.
            from tests.support import fake_gcs

            place = folder / "served"
            place.mkdir()
            _, self._store, environment = fake_gcs.serve(place, writes_per_second=0)
            self._store.buckets["run"] = {}
            os.environ.update(environment)
        self._runs += 1
        name = f"gs://run/{self._runs}"

        def handle() -> int:
            self._store.reset()
            _numbers(steps, name)
            return sum(one["received"] for one in self._store.stats.values())

        return handle


def _rows(steps: int, folder: Path) -> Path:
    """Write metrics.jsonl as a run of so many steps leaves it."""
    from train.telemetry import telemetry
    from train.telemetry.writers import to_bytes

    with _telemetry(str(folder)) as numbers:
        row = numbers.loop(_loop(LOOP_STEPS), macs_per_image=1e9)
    path, values = folder / "metrics.jsonl", row.values()
    lines = (
        to_bytes(telemetry._line("train", loop * LOOP_STEPS, values))
        for loop in range(1, steps // LOOP_STEPS + 1)
    )
    path.write_bytes(b"".join(lines))
    return path


def _goes_on(steps: int, folder: Path) -> Handle:
    """Return what a process does that goes on where the last one has ended."""
    _rows(steps, folder)

    def handle() -> None:
        with _telemetry(str(folder)) as numbers:
            numbers.start(steps, "")
            numbers.loop(_loop(steps + LOOP_STEPS), macs_per_image=1e9)

    return handle


def _went_back(steps: int, folder: Path) -> Handle:
    """Return what a process does that goes on before what the last one has written."""
    path = _rows(steps, folder)

    def handle() -> int:
        with _telemetry(str(folder)) as numbers:
            numbers.start(steps - LOOP_STEPS, "")
        return path.stat().st_size

    return handle


def _shown(steps: int) -> Handle:
    """Return what shows a line for each loop."""
    from train.telemetry.progress import Progress

    row = _telemetry("", writes=False).loop(_loop(LOOP_STEPS), macs_per_image=1e9)

    def handle() -> None:
        progress = Progress(0, steps, 8)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            for loop in range(1, steps // LOOP_STEPS + 1):
                progress.update(loop * LOOP_STEPS, row)
        progress.summary()

    return handle


def _saved(saves: int, folder: Path) -> Handle:
    """Return what saves checkpoints of which each stays for its age."""
    import tensorflow as tf

    from train.checkpoints import bundle
    from train.checkpoints.manager import Checkpoints

    variables = {
        "step": tf.Variable(tf.zeros([], tf.int64)),
        "kernel": tf.Variable(tf.zeros([8])),
    }

    def handle() -> int:
        read = [0]
        manifest = bundle.read_manifest

        def counting(path: str) -> dict[str, Any]:
            read[0] += 1
            return manifest(path)

        bundle.read_manifest = counting
        try:
            with Checkpoints(
                variables, str(folder), keep=3, keep_every_hours=1e-9
            ) as checkpoints:
                for step in range(1, saves + 1):
                    variables["step"].assign(step)
                    checkpoints.save()
                    checkpoints.wait()
        finally:
            bundle.read_manifest = manifest
        return read[0]

    return handle


def cases() -> list[Case]:
    """Return what grows with the steps of a run."""
    of_steps = functools.partial(Case, axis="steps")
    return [
        of_steps(
            name="metrics.jsonl and TensorBoard's file, on a disk",
            sizes=STEPS,
            make=_on_a_disk,
            work="bytes written",
        ),
        of_steps(
            name="metrics.jsonl and TensorBoard's file, in a bucket",
            sizes=BUCKET_STEPS,
            make=_Bucket().numbers,
            work="bytes sent",
        ),
        of_steps(name="a process goes on", sizes=ROWS, make=_goes_on),
        of_steps(
            name="a process goes on, a loop before the last one written",
            sizes=ROWS,
            make=_went_back,
            work="bytes written",
        ),
        of_steps(
            name="a line of progress for each loop",
            sizes=ROWS,
            make=lambda size, _: _shown(size),
        ),
        Case(
            name="checkpoints are saved, and all stay for their age",
            axis="checkpoints",
            sizes=(10, 30, 100, 300),
            make=_saved,
            work="manifests read",
        ),
    ]
