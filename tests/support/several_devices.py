"""`train.main` on several CPUs: python -m tests.support.several_devices 2 ...

Its graphs are not optimized, as in tests/conftest.py.
"""

import gc
import sys

import tensorflow as tf

from train import main


def train() -> int:
    """Run `train.main` on as many CPUs as the first argument says."""
    devices = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1))
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, devices)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.disable()
    return main.main()


if __name__ == "__main__":
    sys.exit(train())
