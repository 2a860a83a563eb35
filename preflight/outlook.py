"""What a whole run would take: hours, and images for its hosts."""

import dataclasses

from common.accelerators import CHIPS_PER_HOST
from tpu_compiler import Topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A whole run by the estimates of its stages.

    Attributes:
      train_steps: of the run.
      epochs: of the run.
      step_ms: on average; as what follows, None where the compiler has no estimate of
        a stage.
      images_per_second: of the slice, on average.
      peak_images_per_second: of the slice, in its fastest stage.
      hours: of all train steps.
      all_reduce_ms: of a step on average, by our own estimate; it is in no other field.
    """

    train_steps: int
    epochs: float
    step_ms: float | None = None
    images_per_second: float | None = None
    peak_images_per_second: float | None = None
    hours: float | None = None
    all_reduce_ms: float | None = None

    @property
    def step_ms_with_all_reduces(self) -> float | None:
        """The compiler's estimate and ours, one after the other."""
        if self.step_ms is None or self.all_reduce_ms is None:
            return None
        return self.step_ms + self.all_reduce_ms

    @property
    def hours_with_all_reduces(self) -> float | None:
        """Of all train steps, by both."""
        step_ms = self.step_ms_with_all_reduces
        return None if step_ms is None else self.train_steps * step_ms / 3.6e6


@dataclasses.dataclass(frozen=True)
class HostInput:
    """What each host of a slice has to be given, and whether its cores can make it.

    Attributes:
      topology: the slice.
      slice_images_per_second: of the whole slice in the stage that asks most of its
        hosts; None is unknown.
      cpu_ms_per_image: of one core, in the same stage; None is unknown.
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
        return self.topology.hosts

    @property
    def cores(self) -> int:
        """Of a host, in proportion to the devices that are the slice's."""
        generation = self.topology.generation
        devices = CHIPS_PER_HOST * generation.devices_per_chip
        share = self.topology.num_devices / self.hosts / devices
        return int(generation.host_cores * share)

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


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What follows from the train steps for the whole run.

    Attributes:
      schedule: its steps and hours.
      host_input: what its hosts are asked for.
    """

    schedule: Schedule
    host_input: HostInput
