"""Accelerators by name, and what one device of each can do at most."""

import dataclasses
from collections.abc import Mapping

from common.accelerators import A100, H100, TPUS, V100, Gpu
from common.errors import UserError
from tpu_compiler import Topology


class HardwareError(UserError):
    """One line for a person: what is wrong, and how to mend it."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device: a GPU, a TPU chip, or one of the two cores of a TPU v2 or v3 chip.

    Attributes:
      name: such as tpu-v3 or gpu-a100.
      device: what is meant, for people.
      peak_flops: FLOP/s by dtype, dense.
      bytes_per_second: of its memory.
      source: of the figures. None of them was measured here.
      topology: what the TPU compiler compiles for, None for a GPU.
    """

    name: str
    device: str
    peak_flops: Mapping[str, float]
    bytes_per_second: float
    source: str
    topology: Topology | None = None

    def peak(self, dtype: str) -> float:
        """Return the FLOP/s at most.

        Raises:
          HardwareError: no peak is known for this dtype.
        """
        if dtype not in self.peak_flops:
            raise HardwareError(
                f"no peak of {self.name} is known for {dtype!r}; choose "
                f"{' or '.join(self.peak_flops)}"
            )
        return self.peak_flops[dtype]


def find(name: str) -> Hardware:
    """Return the accelerator of a name.

    Raises:
      HardwareError: there is none.
    """
    if name not in HARDWARE:
        known = ", ".join(HARDWARE)
        raise HardwareError(f"unknown hardware {name!r}; choose one of {known}")
    return HARDWARE[name]


def _tpu(name: str) -> Hardware:
    topology = Topology.parse(name)
    return Hardware(
        f"tpu-{name}",
        topology.device,
        topology.generation.peak_flops,
        topology.generation.hbm_bytes_per_second,
        "published, cloud.google.com/tpu/docs; all bandwidths but v5e's from memory",
        topology,
    )


def _gpu(name: str, device: str, gpu: Gpu) -> Hardware:
    assert gpu.bytes_per_second is not None
    source = f"published, NVIDIA's data sheet of {device}; from memory"
    return Hardware(f"gpu-{name}", device, gpu.peak_flops, gpu.bytes_per_second, source)


HARDWARE = {
    hardware.name: hardware
    for hardware in (
        *map(_tpu, TPUS),
        _gpu("v100", "V100 SXM2", V100),
        _gpu("a100", "A100 SXM 80GB", A100),
        _gpu("h100", "H100 SXM", H100),
    )
}
