"""What a job runs on, by every name that Google Cloud and Kubernetes have for it."""

import dataclasses
from collections.abc import Mapping

from common.accelerators import CHIPS_PER_HOST
from common.errors import UserError
from tpu_compiler import Topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Generation:
    """How a generation of TPUs is sold.

    Attributes:
      type_prefix: of accelerator types, as in "v5litepod-32".
      counts_cores: whether the number in it counts cores, two of a chip.
      runtime: image of TPU VMs for frameworks that one installs oneself
        (cloud.google.com/tpu/docs/runtimes).
      gke_accelerator: label of GKE's nodes; gke_machine likewise, with {} for the chips
        of a host (cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus). None
        where GKE has no such slices.
      sells_chips: whether a single chip is to be had; else whole hosts alone.
    """

    type_prefix: str
    counts_cores: bool
    runtime: str
    gke_accelerator: str | None
    gke_machine: str | None
    sells_chips: bool = False


_GENERATIONS: Mapping[str, _Generation] = {
    "v2": _Generation(
        type_prefix="v2",
        counts_cores=True,
        runtime="tpu-ubuntu2204-base",
        gke_accelerator=None,
        gke_machine=None,
    ),
    "v3": _Generation(
        type_prefix="v3",
        counts_cores=True,
        runtime="tpu-ubuntu2204-base",
        gke_accelerator="tpu-v3-slice",
        gke_machine="ct3p-hightpu-{}t",
    ),
    "v4": _Generation(
        type_prefix="v4",
        counts_cores=True,
        runtime="tpu-ubuntu2204-base",
        gke_accelerator="tpu-v4-podslice",
        gke_machine="ct4p-hightpu-{}t",
    ),
    "v5e": _Generation(
        type_prefix="v5litepod",
        counts_cores=False,
        runtime="v2-alpha-tpuv5-lite",
        gke_accelerator="tpu-v5-lite-podslice",
        gke_machine="ct5lp-hightpu-{}t",
        sells_chips=True,
    ),
    "v5p": _Generation(
        type_prefix="v5p",
        counts_cores=True,
        runtime="v2-alpha-tpuv5",
        gke_accelerator="tpu-v5p-slice",
        gke_machine="ct5p-hightpu-{}t",
    ),
    "v6e": _Generation(
        type_prefix="v6e",
        counts_cores=False,
        runtime="v2-alpha-tpuv6e",
        gke_accelerator="tpu-v6e-slice",
        gke_machine="ct6e-standard-{}t",
        sells_chips=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class TpuSlice:
    """A slice of TPUs: one machine that needs several hosts.

    Attributes:
      topology: as preflight knows it.
    """

    topology: Topology

    @classmethod
    def parse(cls, text: str) -> "TpuSlice":
        """Return the slice that a text such as v5e:4x8 names.

        Raises:
          UserError: nobody sells such a slice.
        """
        topology = Topology.parse(text)
        if topology.num_chips < CHIPS_PER_HOST and not _of(topology).sells_chips:
            least = Topology(topology.name, topology.slices[1])
            raise UserError(
                f"no slice {text!r} is to be had: {topology.name} comes in hosts of "
                f"{CHIPS_PER_HOST} chips; the smallest is {least}"
            )
        return cls(topology)

    @property
    def name(self) -> str:
        """As a job file names it: v5e:4x8."""
        return str(self.topology)

    @property
    def chips(self) -> int:
        """Of the slice."""
        return self.topology.num_chips

    @property
    def chips_per_host(self) -> int:
        """Of each host."""
        return self.topology.chips_per_host

    @property
    def hosts(self) -> int:
        """Machines of the slice."""
        return self.topology.hosts

    @property
    def replicas(self) -> int:
        """Of a training on it."""
        return self.topology.num_devices

    @property
    def accelerator_type(self) -> str:
        """As the TPU API and SkyPilot name it: v5litepod-32, v4-32 of 16 chips."""
        generation = _of(self.topology)
        count = self.chips * (2 if generation.counts_cores else 1)
        return f"{generation.type_prefix}-{count}"

    @property
    def runtime(self) -> str:
        """Image of the TPU VMs."""
        return _of(self.topology).runtime

    @property
    def gke_topology(self) -> str:
        """As GKE's nodes are labelled: 4x8."""
        flat = len(self.topology.slices[0])  # a third side of 1 may have been written
        return "x".join(map(str, self.topology.sides[:flat]))

    @property
    def gke_accelerator(self) -> str:
        """As GKE's nodes are labelled; UserError where GKE has no such slices."""
        return self._of_gke(_of(self.topology).gke_accelerator)

    @property
    def gke_machine(self) -> str:
        """Machine type of GKE's nodes; UserError where GKE has no such slices."""
        pattern = self._of_gke(_of(self.topology).gke_machine)
        return pattern.format(self.chips_per_host)

    def _of_gke(self, name: str | None) -> str:
        if name is None:
            raise UserError(f"GKE has no TPU {self.topology.name}; render for skypilot")
        return name


@dataclasses.dataclass(frozen=True)
class _GpuType:
    """How a type of GPUs is sold.

    Attributes:
      machines: machine type by number of GPUs
        (cloud.google.com/compute/docs/gpus; SkyPilot's catalogue has the same).
      accelerator: as GKE's nodes are labelled.
      is_attached: whether the machine type has none of itself.
    """

    machines: Mapping[int, str]
    accelerator: str
    is_attached: bool = False


def _of_a_family(pattern: str, *counts: int) -> dict[int, str]:
    return {count: pattern.format(count) for count in counts}


_N1 = {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"}
_G2 = {1: "g2-standard-16", 2: "g2-standard-24", 4: "g2-standard-48"}
_GPUS: Mapping[str, _GpuType] = {
    "V100": _GpuType({**_N1, 8: "n1-standard-64"}, "nvidia-tesla-v100", True),
    "T4": _GpuType(_N1, "nvidia-tesla-t4", True),
    "L4": _GpuType({**_G2, 8: "g2-standard-96"}, "nvidia-l4"),
    "A100": _GpuType(_of_a_family("a2-highgpu-{}g", 1, 2, 4, 8), "nvidia-tesla-a100"),
    "A100-80GB": _GpuType(
        _of_a_family("a2-ultragpu-{}g", 1, 2, 4, 8), "nvidia-a100-80gb"
    ),
    "H100": _GpuType(_of_a_family("a3-highgpu-{}g", 1, 2, 4, 8), "nvidia-h100-80gb"),
    "H200": _GpuType(_of_a_family("a3-ultragpu-{}g", 8), "nvidia-h200-141gb"),
    "B200": _GpuType(_of_a_family("a4-highgpu-{}g", 8), "nvidia-b200"),
}


@dataclasses.dataclass(frozen=True)
class GpuHosts:
    """Hosts with GPUs of one type; UserError where nobody sells so many on one.

    Attributes:
      type: A100, H100 ...
      per_host: GPUs of each.
      hosts: how many.
    """

    type: str
    per_host: int
    hosts: int = 1

    def __post_init__(self):
        """Refuse what is not to be had."""
        counts = _GPUS[self.type].machines
        if self.per_host not in counts:
            raise UserError(
                f"no machine with {self.per_host} x {self.type} is to be had: there "
                f"are machines with {', '.join(map(str, counts))}"
            )

    @property
    def machine_type(self) -> str:
        """Of Compute Engine."""
        return _GPUS[self.type].machines[self.per_host]

    @property
    def is_attached(self) -> bool:
        """Whether GPUs have to be asked for beside the machine type."""
        return _GPUS[self.type].is_attached

    @property
    def accelerator(self) -> str:
        """As Compute Engine and the labels of GKE's nodes name the type."""
        return _GPUS[self.type].accelerator

    @property
    def name(self) -> str:
        """In words: 2 x A100:8."""
        several = f"{self.hosts} x " if self.hosts > 1 else ""
        return f"{several}{self.type}:{self.per_host}"

    @property
    def replicas(self) -> int:
        """Of a training on them."""
        return self.hosts * self.per_host


Machines = TpuSlice | GpuHosts


def _of(topology: Topology) -> _Generation:
    return _GENERATIONS[topology.name]
