"""What it costs the hosts of a slice to feed it with images."""

import math
import time
from typing import Any

from common.accelerators import CHIPS_PER_HOST
from models.input_form import InputForm
from tpu_compiler import Topology
from train.datasets import training_images
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors

_BATCH = 32
_WARM_UP = 8  # batches until all stages are at work
_SECONDS = 3.0


def cpu_ms_per_image(experiment: Experiment, form: InputForm) -> float:
    """Measures for some seconds what an image costs here, from record to batch.

    Args:
      experiment: whose training data, with its augmentation, is read; by this process,
        also where the run leaves that to a fleet.
      form: of the images that the model takes.

    Returns:
      Milliseconds of one core.

    Raises:
      input_pipeline.errors.DataError: the data cannot be read.
    """
    dataset = training_images(experiment, form, batch_size=_BATCH, service=None)
    with translate_errors():
        batches = iter(dataset)  # endless
        for _ in range(_WARM_UP):
            next(batches)
        began, cpu, images = time.monotonic(), time.process_time(), 0
        while time.monotonic() - began < _SECONDS:
            next(batches)
            images += _BATCH
    return 1e3 * (time.process_time() - cpu) / images


def verdict(
    images_per_second: float | None,
    topology: Topology,
    cpu_ms: float | None,
    *,
    by_fleet: bool = False,
) -> dict[str, Any]:
    """Returns what each host has to make, and whether its cores can.

    Args:
      images_per_second: of the whole slice, where it is fastest; None is unknown.
      topology: the slice.
      cpu_ms: of one core, for an image; None is unknown.
      by_fleet: whether other machines make the images, so that its own cores do not
        matter.
    """
    hosts = math.ceil(topology.num_chips / CHIPS_PER_HOST)
    # A slice smaller than a host has its share of the cores.
    share = min(1.0, topology.num_devices / _devices_per_host(topology))
    cores = int(topology.generation.host_cores * share)
    demand = None if images_per_second is None else images_per_second / hosts
    supply = None if cpu_ms is None or by_fleet else cores * 1e3 / cpu_ms
    needed = None if demand is None or cpu_ms is None else demand * cpu_ms / 1e3
    return {
        "hosts": hosts,
        "images_per_second_per_host": demand,
        "input": {
            "by_fleet": by_fleet,
            "cpu_ms_per_image": cpu_ms,
            "cores_per_host": cores,
            "cores_needed_per_host": needed,
            "images_per_second_per_host": supply,
            "keeps_up": None if demand is None or supply is None else supply >= demand,
        },
    }


def _devices_per_host(topology: Topology) -> int:
    return CHIPS_PER_HOST * topology.generation.devices_per_chip
