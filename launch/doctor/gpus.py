"""Google Cloud's machines with GPUs, and the names of their quotas.

Machine types: cloud.google.com/compute/docs/gpus, as SkyPilot 0.14.1 lists them. Types
of accelerators and quotas: the same page, compute's quota metrics by its discovery
document; those of H100, H200 and B200 from memory.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuType:
    """A GPU as Compute Engine knows it.

    Attributes:
      accelerator: its accelerator type.
      quota: metric of a region's quota; that of spot has PREEMPTIBLE_ before it. None:
        it is not among a region's quotas.
      machines: machine type by the number of GPUs; "" where the GPUs are attached to a
        machine that the engine chooses.
    """

    accelerator: str
    quota: str | None
    machines: Mapping[int, str]


GPU_TYPES = {
    "T4": GpuType(
        accelerator="nvidia-tesla-t4",
        quota="NVIDIA_T4_GPUS",
        machines={1: "", 2: "", 4: ""},
    ),
    "V100": GpuType(
        accelerator="nvidia-tesla-v100",
        quota="NVIDIA_V100_GPUS",
        machines={1: "", 2: "", 4: "", 8: ""},
    ),
    "L4": GpuType(
        accelerator="nvidia-l4",
        quota="NVIDIA_L4_GPUS",
        machines={
            1: "g2-standard-8",
            2: "g2-standard-24",
            4: "g2-standard-48",
            8: "g2-standard-96",
        },
    ),
    "A100": GpuType(
        accelerator="nvidia-tesla-a100",
        quota="NVIDIA_A100_GPUS",
        machines={n: f"a2-highgpu-{n}g" for n in (1, 2, 4, 8)},
    ),
    "A100-80GB": GpuType(
        accelerator="nvidia-a100-80gb",
        quota="NVIDIA_A100_80GB_GPUS",
        machines={n: f"a2-ultragpu-{n}g" for n in (1, 2, 4, 8)},
    ),
    "H100": GpuType(
        accelerator="nvidia-h100-80gb",
        quota="NVIDIA_H100_GPUS",
        machines={n: f"a3-highgpu-{n}g" for n in (1, 2, 4, 8)},
    ),
    "H200": GpuType(
        accelerator="nvidia-h200-141gb", quota=None, machines={8: "a3-ultragpu-8g"}
    ),
    "B200": GpuType(
        accelerator="nvidia-b200", quota=None, machines={8: "a4-highgpu-8g"}
    ),
}
