"""Accelerators by name: what one device of each can do at most, and what feeds it.

A device is what runs one replica. That is one of a chip's two cores on TPU v2 and v3.
On v4 a chip's two cores can be two devices or work as one; one is what TPUStrategy
makes of them, and what is meant here. From v5e on, and with a GPU, a chip is a device.

None of the figures was measured here but `Tpu.hbm_bytes`.
"""

import dataclasses
import re
from collections.abc import Mapping

MIB = 2**20
CHIPS_PER_HOST = 4  # as slices of several hosts are made of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tpu:
    """A generation of TPUs.

    Attributes:
      devices_per_chip: 1 or 2.
      clock_hz: published for v2, v3 and v4 (Jouppi et al., "TPU v4", ISCA 2023, table
        of generations; from memory). Derived for the others: the published peak
        divided by the operations a cycle of 4 (v5e), 8 (v5p) matrix units of 128x128
        and 4 of 256x256 (v6e; the number of units is not sure, and so its clock).
      hbm_bytes: what the compiler lets one device's program use; measured here to the
        MiB with libtpu 0.0.52. The rest of the published size is reserved.
      peak_flops: FLOP/s of one device by dtype. Published by chip
        (cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e).
      hbm_bytes_per_second: of one device. Published by chip, on the same pages; those
        of v2, v3, v4, v5p and v6e from memory.
      largest_host: chips of the largest host; no other is in its slice.
      host_cores: vCPUs of a TPU VM that has CHIPS_PER_HOST chips. Published on the same
        pages; from memory.
      link_bytes_per_second: one way, of each of the links to the neighbours in a slice,
        two for each of its sides. From the same pages: of v5e, v5p and v6e the
        bidirectional bandwidth of a chip, halved, over its links; of v3 and v4 the
        all-reduce bandwidth of a pod, which agrees for v5e and v6e, over its links. Of
        v2 496 Gbit/s (Jouppi et al., CACM 2020; from memory).
      ring: a side of a multiple of so many chips closes to a ring. From the JAX team's
        "How to Scale Your Model", part 2; of v2 and v3 it is the side of a whole pod,
        an assumption.
    """

    devices_per_chip: int = 1
    largest_host: int = CHIPS_PER_HOST
    clock_hz: float
    hbm_bytes: int
    peak_flops: Mapping[str, float]
    hbm_bytes_per_second: float
    host_cores: int
    link_bytes_per_second: float
    ring: int


TPUS = {
    "v2": Tpu(
        devices_per_chip=2,
        clock_hz=700e6,
        hbm_bytes=7662 * MIB,
        peak_flops={"bfloat16": 45e12 / 2},
        hbm_bytes_per_second=700e9 / 2,
        host_cores=96,
        link_bytes_per_second=496e9 / 8,
        ring=16,
    ),
    "v3": Tpu(
        devices_per_chip=2,
        clock_hz=940e6,
        hbm_bytes=15854 * MIB,
        peak_flops={"bfloat16": 123e12 / 2},
        hbm_bytes_per_second=900e9 / 2,
        host_cores=96,
        link_bytes_per_second=340e12 / (1024 * 4),
        ring=32,
    ),
    "v4": Tpu(
        clock_hz=1.05e9,
        hbm_bytes=31485 * MIB,
        peak_flops={"bfloat16": 275e12},
        hbm_bytes_per_second=1228e9,
        host_cores=240,
        link_bytes_per_second=1.1e15 / (4096 * 6),
        ring=4,
    ),
    "v5e": Tpu(
        largest_host=8,
        clock_hz=1.5e9,
        hbm_bytes=16126 * MIB,
        peak_flops={"bfloat16": 197e12},
        hbm_bytes_per_second=819e9,
        host_cores=112,
        link_bytes_per_second=400e9 / 2 / 4,
        ring=16,
    ),
    "v5p": Tpu(
        clock_hz=1.75e9,
        hbm_bytes=98025 * MIB,
        peak_flops={"bfloat16": 459e12},
        hbm_bytes_per_second=2765e9,
        host_cores=208,
        link_bytes_per_second=1200e9 / 2 / 6,
        ring=4,
    ),
    "v6e": Tpu(
        largest_host=8,
        clock_hz=1.75e9,
        hbm_bytes=31992 * MIB,
        peak_flops={"bfloat16": 918e12},
        hbm_bytes_per_second=1640e9,
        host_cores=180,
        link_bytes_per_second=800e9 / 2 / 4,
        ring=16,
    ),
}

# What an accelerator type begins with, where that is not the generation's name.
_TPU_ALIASES = {"v5litepod": "v5e"}


def tpu_of_type(accelerator_type: str) -> Tpu | None:
    """Return the generation of a type such as "v4-32", as a TPU VM knows its own."""
    name = accelerator_type.partition("-")[0]
    return TPUS.get(_TPU_ALIASES.get(name, name))


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A product of NVIDIA's; figures from its data sheets, of B200 that of HGX B200.

    Attributes:
      pattern: that is found in the name which a device gives itself.
      peak_flops: FLOP/s by dtype, dense (half of what NVIDIA prints "with sparsity").
        Of 16 bits the tensor cores', of float32 those of the other cores: TF32 would
        be another dtype. Empty is not known.
      bytes_per_second: of its memory; None is not noted here. From memory.
    """

    pattern: str
    peak_flops: Mapping[str, float]
    bytes_per_second: float | None = None

    @property
    def peak_of_16_bits(self) -> float | None:
        """FLOP/s in bfloat16, or in float16 where there is no bfloat16 (V100, T4)."""
        return self.peak_flops.get("bfloat16", self.peak_flops.get("float16"))


def _both(flops: float) -> dict[str, float]:
    return {"bfloat16": flops, "float16": flops}


V100 = Gpu(r"\bV100-SXM", {"float16": 125e12, "float32": 15.7e12}, 900e9)
A100 = Gpu(r"\bA100\b", {**_both(312e12), "float32": 19.5e12}, 2039e9)
H100 = Gpu(r"\bH100\b", {**_both(989e12), "float32": 67e12}, 3350e9)

# The first one whose pattern is found counts.
GPUS = (
    Gpu(r"\bMIG\b", {}),  # a slice of a GPU, and its name does not say of how much
    Gpu(r"\bB200\b", _both(2250e12)),
    Gpu(r"\bH200 NVL\b", _both(835e12)),
    Gpu(r"\bH200\b", _both(989e12)),
    Gpu(r"\bH100 NVL\b", _both(835e12)),
    Gpu(r"\bH100 PCIe\b", _both(756e12)),
    H100,  # SXM: "NVIDIA H100 80GB HBM3"
    A100,  # the peaks of SXM and PCIe are alike; the bandwidth is that of SXM 80GB
    Gpu(r"\bL4\b", _both(121e12)),
    Gpu(r"\bV100-PCIE\b", {"float16": 112e12}),
    V100,  # SXM2
    Gpu(r"\bT4\b", {"float16": 65e12}),
)


def gpu_of_name(device_name: str) -> Gpu | None:
    """Return the GPU that a name such as "NVIDIA A100-SXM4-40GB" stands for."""
    return next((gpu for gpu in GPUS if re.search(gpu.pattern, device_name)), None)
