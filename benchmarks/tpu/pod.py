"""What `python -m preflight` says of the recipe at pod scale: text, in JSON.

    python -m benchmarks.tpu.pod --output=benchmarks/results/tpu.pod.json

Runs the command of docs/recipes.md: B5, 65,536 images a step on 1,024 replicas of TPU
v3, without one. It takes two cores five minutes that are otherwise idle, and one where
the compiler's cache knows the answer.

Exit status: that of preflight.
"""

import argparse
import sys

from benchmarks.support import results
from benchmarks.tpu.preflight import DOES_NOT_SHOW, said_by
from common import cli
from common.errors import Status

COMMAND = (
    *("python", "-m", "preflight", "--topology=v3:16x32", "--no_largest_batch"),
    "--train_images=1281167",  # of ImageNet, whose files are not here
    "--gin_file=gin_configs/models/efficientnet_b5.gin",
    "--gin_file=gin_configs/runs/imagenet_pod.gin",
    "--gin_param=experiment.Experiment.data_dir = 'gs://bucket/imagenet'",
)
# The abstract of arXiv 2011.00071, of 1,024 cores of TPU v3 and 65,536 images a step.
_PUBLISHED = {"top1": 83.0, "minutes": 64, "cores": 1024, "source": "arXiv 2011.00071"}


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.tpu.pod", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command, and print the line."""
    said, status = said_by(COMMAND)
    report = {
        "benchmark": "tpu.pod",
        **said,
        "published": _PUBLISHED,
        "does_not_show": f"{DOES_NOT_SHOW}; the recipe itself, which nobody has run",
    }
    results.publish(report, arguments.output)
    return status


if __name__ == "__main__":
    sys.exit(main())
