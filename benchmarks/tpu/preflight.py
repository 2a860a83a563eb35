"""What `python -m preflight` says of the paper's recipe on a slice, and when.

    python -m benchmarks.tpu.preflight --output=benchmarks/results/tpu.preflight.json

Runs the command of docs/preflight.md twice: X-B0 on 16 chips of TPU v3, without one.
The first time its caches are empty: that takes two idle cores about ten minutes. The
second time they know the answers.

Exit status: that of preflight.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.errors import Status, UserError
from common.project import ROOT
from tpu_compiler import environment

COMMAND = (
    *("python", "-m", "preflight", "--topology=v3:4x4"),
    "--train_images=1281167",  # of ImageNet, whose files are not here
    "--input_cpu_ms=2.07",  # of a core of the hosts for an image, taken as given
    "--gin_file=gin_configs/models/efficientnet_x_b0.gin",
    "--gin_file=gin_configs/runs/imagenet_tpu.gin",
    "--gin_param=experiment.Experiment.data_dir = 'gs://bucket/imagenet'",
)
_VERDICT = "train step: "  # begins the line that a person waits for
DOES_NOT_SHOW = (
    "a TPU: times are sums of the compiler's cycle estimates, and of all-reduces our "
    "own; TPUStrategy"
)


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.tpu.preflight", __doc__)


def said_by(
    command: Sequence[str], caches: str | None = None
) -> tuple[dict[str, Any], Status]:
    """Run a command of preflight's, and return what a report has of it, and its status.

    Args:
      command: its words.
      caches: folder of what is kept between runs; None is the user's, and then nobody
        knows what the seconds mean.

    Raises:
      UserError: it has no answer.
    """
    hardware = machine.describe()  # before this benchmark is part of the load
    output, seconds, status = _timed(command, caches)
    if status not in (Status.OK, Status.NO):
        raise UserError(f"preflight ended with {status}, see above")
    said = {
        "command": command,
        "output": output,
        "machine": hardware,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
    }
    if caches is not None:
        said["seconds"] = seconds
    return said, Status(status)


def _timed(
    command: Sequence[str], caches: str | None
) -> tuple[list[str], dict[str, float | None], int]:
    """Return a command's lines, after how many seconds they came, and its status."""
    env = dict(os.environ) | ({} if caches is None else {"XDG_CACHE_HOME": caches})
    words = [sys.executable, *command[1:]]
    began, first, lines = time.monotonic(), None, []
    with subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if first is None and line.startswith(_VERDICT):
                first = round(time.monotonic() - began, 1)
            lines.append(line.rstrip("\n"))
    whole = round(time.monotonic() - began, 1)
    return lines, {"first_verdict": first, "all": whole}, process.returncode


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command, and print the line."""
    with tempfile.TemporaryDirectory() as caches:
        said, status = said_by(COMMAND, caches)
        again, _ = said_by(COMMAND, caches)
    if again["output"] != said["output"]:
        raise UserError(
            "preflight says something else the second time: "
            + " | ".join(again["output"])
        )
    limits = f"{DOES_NOT_SHOW}; what an image costs the hosts of a TPU, which is given"
    report = {
        "benchmark": "tpu.preflight",
        **said,
        "seconds_again": again["seconds"],
        "does_not_show": limits,
    }
    results.publish(report, arguments.output)
    return status


if __name__ == "__main__":
    sys.exit(main())
