"""What `python -m preflight` says of the paper's recipe on a slice: text, in JSON.

    python -m benchmarks.preflight --output=benchmarks/results/preflight.json

Runs the command of docs/preflight.md: X-B0 on 16 chips of TPU v3, without one.

Exit status: that of preflight.
"""

import argparse
import subprocess
import sys
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
DOES_NOT_SHOW = (
    "a TPU: times are sums of the compiler's cycle estimates, and of all-reduces our "
    "own; TPUStrategy"
)


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.preflight", __doc__)


def said_by(command: Sequence[str]) -> tuple[dict[str, Any], Status]:
    """Run a command of preflight's, and return what a report has of it, and its status.

    Raises:
      UserError: it has no answer.
    """
    hardware = machine.describe()  # before this benchmark is part of the load
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in (Status.OK, Status.NO):
        raise UserError(f"preflight ended with {done.returncode}, see above")
    said = {
        "command": command,
        "output": done.stdout.splitlines(),
        "machine": hardware,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
    }
    return said, Status(done.returncode)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command, and print the line."""
    said, status = said_by(COMMAND)
    limits = f"{DOES_NOT_SHOW}; what an image costs the hosts of a TPU, which is given"
    report = {"benchmark": "preflight", **said, "does_not_show": limits}
    results.publish(report, arguments.output)
    return status


if __name__ == "__main__":
    sys.exit(main())
