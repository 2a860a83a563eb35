"""What `python -m preflight` says of the paper's recipe on a slice: text, in JSON.

python -m benchmarks.preflight --output=benchmarks/results/preflight.json

Runs the command of the docs for X-B0 on 16 chips of TPU v3, without one. What an image
costs the hosts' processors is what benchmarks.input has measured last.

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

_IMAGES = 1_281_167  # of ImageNet, whose files are not here
_DOES_NOT_SHOW = (
    "a TPU: times are sums of the compiler's cycle estimates, without all-reduces; "
    "TPUStrategy; the hosts of a TPU, whose processors are taken for this machine's"
)


def _arguments(input_cpu_ms: float) -> tuple[str, ...]:
    return (
        "--topology=v3:4x4",
        "--gin_file=gin_configs/models/efficientnet_x_b0.gin",
        "--gin_file=gin_configs/runs/imagenet_tpu.gin",
        "--gin_param=experiment.Experiment.data_dir = 'gs://bucket/imagenet'",
        f"--train_images={_IMAGES}",
        f"--input_cpu_ms={input_cpu_ms:.3g}",
    )


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.preflight", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command, and print the line."""
    measured = results.load(results.FOLDER / "input.json")["cpu_ms_per_image"]
    hardware = machine.describe()  # before this benchmark is part of the load
    command = "-m", "preflight", *_arguments(measured)
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in (Status.OK, Status.NO):
        raise UserError(f"preflight ended with {done.returncode}, see above")
    report = {
        "benchmark": "preflight",
        "command": ["python", *command],
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
