"""How long each form takes for one image on one core, in a process of its own.

The process keeps to one core before it imports anything, so that TensorFlow, too, has
one thread.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from common.errors import UserError
from common.project import ROOT

_CODE = "from train.exports.formats import latency; latency.child()"
_WARM_UP = 3
_LEAST_RUNS, _MOST_RUNS, _SECONDS = 5, 100, 2.0


def measure(folder: str, forms: Sequence[str], resolution: int) -> dict[str, Any]:
    """Return by form the median of milliseconds and of how many runs.

    Args:
      folder: of the export.
      forms: the SavedModel's name among them, perhaps.
      resolution: S of pixels [1, S, S, 3].

    Raises:
      UserError: a form cannot be run.
    """
    asked = json.dumps({"folder": folder, "forms": forms, "resolution": resolution})
    path = os.pathsep.join(filter(None, (str(ROOT), *sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", _CODE, asked],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise UserError(f"cannot measure how long {', '.join(forms)} take: {why}")
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def child() -> None:
    """Measure what the command line asks for, and print it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asked = json.loads(sys.argv[1])
    folder, resolution = asked["folder"], asked["resolution"]
    found = {form: _time(form, folder, resolution) for form in asked["forms"]}
    print(json.dumps(found))


def _time(form: str, folder: str, resolution: int) -> dict[str, Any]:
    import numpy as np

    from train.exports.formats import runtimes

    run = runtimes.load(form, folder, threads=1)
    drawn = np.random.default_rng(0).integers(0, 256, (1, resolution, resolution, 3))
    pixels = drawn.astype(np.float32)
    for _ in range(_WARM_UP):
        run(pixels)
    seconds: list[float] = []
    while len(seconds) < _LEAST_RUNS or (
        len(seconds) < _MOST_RUNS and sum(seconds) < _SECONDS
    ):
        begin = time.perf_counter()
        run(pixels)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    return {"milliseconds": 1000 * median, "runs": len(seconds)}
