"""What `python -m preflight` says of the paper's recipe on a slice: text, in JSON.

    python -m benchmarks.preflight --output=benchmarks/results/preflight.json

Runs the command of docs/preflight.md: X-B0 on 16 chips of TPU v3, without one.

Exit status: that of preflight.
"""

import argparse
import subprocess
import sys
from importlib import metadata

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
_DOES_NOT_SHOW = (
    "a TPU: times are sums of the compiler's cycle estimates, without all-reduces; "
    "TPUStrategy; what an image costs the hosts of a TPU, which is given"
)


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.preflight", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command, and print the line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    command = [sys.executable, *COMMAND[1:]]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (Status.OK, Status.NO):
        raise UserError(f"preflight ended with {done.returncode}, see above")
    report = {
        "benchmark": "preflight",
        "command": COMMAND,
        "output": done.stdout.splitlines(),
        "machine": hardware,
        "compiler": environment().versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    return Status(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
