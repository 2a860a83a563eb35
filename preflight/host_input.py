"""What it costs the hosts of a slice to feed it with images."""

import dataclasses
import math
import time

from common.accelerators import CHIPS_PER_HOST
from models.input_form import InputForm
from tpu_compiler import Topology
from train.datasets import training_images
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors

_BATCH = 32
_WARM_UP = 8  # batches until all stages are at work
_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class HostInput:
    """What each host of a slice has to be given, and whether its cores can make it.

    Attributes:
      topology: the slice.
      slice_images_per_second: of the whole slice, where it is fastest; None is unknown.
      cpu_ms_per_image: of one core; None is unknown.
      by_data_service: whether other machines make the images, so that the host's own
        cores do not matter.
    """

    topology: Topology
    slice_images_per_second: float | None
    cpu_ms_per_image: float | None
    by_data_service: bool = False

    @property
    def hosts(self) -> int:
        """Of the slice."""
        return math.ceil(self.topology.num_chips / CHIPS_PER_HOST)

    @property
    def cores(self) -> int:
        """Of a host; a slice smaller than a host has its share of them."""
        devices = CHIPS_PER_HOST * self.topology.generation.devices_per_chip
        share = min(1.0, self.topology.num_devices / devices)
        return int(self.topology.generation.host_cores * share)

    @property
    def demand(self) -> float | None:
        """Images a second that a host has to be given; None is unknown."""
        if self.slice_images_per_second is None:
            return None
        return self.slice_images_per_second / self.hosts

    @property
    def supply(self) -> float | None:
        """Images a second that a host's cores make; None where that is unknown."""
        if self.cpu_ms_per_image is None or self.by_data_service:
            return None
        return self.cores * 1e3 / self.cpu_ms_per_image

    @property
    def cores_needed(self) -> float | None:
        """By a host's images, here or elsewhere; None is unknown."""
        if self.demand is None or self.cpu_ms_per_image is None:
            return None
        return self.demand * self.cpu_ms_per_image / 1e3

    @property
    def keeps_up(self) -> bool | None:
        """Whether the host's cores are enough; None is unknown."""
        if self.demand is None or self.supply is None:
            return None
        return self.supply >= self.demand


def cpu_ms_per_image(experiment: Experiment, form: InputForm) -> float:
    """Measure for some seconds what an image costs here, from record to batch.

    Args:
      experiment: whose training data, with its augmentation, is read; by this process,
        also where the run leaves that to a data service.
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
