"""`python -m train.main` on CPUs for cores, or on MirroredStrategy of as many CPUs.

    python -m launch.rehearsal.client tpu 2 --gin_file=... --model_dir=...
    python -m launch.rehearsal.client mirrored 2 --gin_file=... --model_dir=...

TPU_NAME is `local`; grpc://127.0.0.1:PORT,... takes the slice of these workers
(`launch.rehearsal.worker`); their order is that of the hosts. It sets
Experiment.strategy, and both end with the same bits.
"""

import sys

import tensorflow as tf

from common import cli
from launch.rehearsal import cores
from train import main
from train.distribution import strategies


def prepare(kind: str, number: int) -> str:
    """Make this process' devices; return the strategy that takes them."""
    if kind == "tpu":
        cores.install(number)
        return "tpu"
    cores.make_cpus(number)
    # Its default adds in another order for each part of a tensor.
    strategies._mirrored = lambda: tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(number)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    return "mirrored"


if __name__ == "__main__":
    strategy = prepare(sys.argv.pop(1), int(sys.argv.pop(1)))
    sys.argv.append(f"--gin_param=experiment.Experiment.strategy = '{strategy}'")
    cli.leave(main.main())
