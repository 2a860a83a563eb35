"""TPU slices by name, and what one of their devices can do at most."""

import dataclasses
import math
import re

from tpu_compiler.errors import CompilerError

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation of TPUs. A device is what runs one replica.

    That is one of a chip's two cores on v2 and v3. On v4 a chip's two cores can be two
    devices or work as one; one is what TPUStrategy makes of them, and what is meant
    here. From v5e on, a chip is a device in any case.

    Attributes:
      devices_per_chip: 1 or 2.
      clock_hz: published for v2, v3 and v4 (Jouppi et al., "TPU v4", ISCA 2023, table
        of generations; from memory). Derived for the others: the published peak
        divided by the operations a cycle of 4 (v5e), 8 (v5p) matrix units of 128x128
        and 4 of 256x256 (v6e; the number of units is not sure, and so its clock).
      hbm_bytes: what the compiler lets one device's program use; measured here to the
        MiB with libtpu 0.0.52. The rest of the published size is reserved.
      peak_flops: bfloat16 FLOP/s of one device. Published by chip
        (cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e).
      hbm_bytes_per_second: of one device. Published by chip, on the same pages; those
        of v2, v3, v4, v5p and v6e from memory.
      slices: the sides in chips of those that there are, the smallest first; published
        on the same pages (AxBxC: all multiples of 4, A <= B <= C), those of v2 and v3
        from memory. And one chip, which the compiler knows, too. libtpu takes more.
      chip_config: how the compiler is told of this device, or None for its default.
    """

    devices_per_chip: int
    clock_hz: float
    hbm_bytes: int
    peak_flops: float
    hbm_bytes_per_second: float
    slices: tuple[tuple[int, ...], ...]
    chip_config: str | None = None


def _cubes(most: int) -> tuple[tuple[int, ...], ...]:
    """Returns the slices of up to so many cubes of 4x4x4 chips, and those of less."""
    of_cubes = (
        (4 * a, 4 * b, 4 * c)
        for a in range(1, most + 1)
        for b in range(a, most // a + 1)
        for c in range(b, most // (a * b) + 1)
    )
    less = ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
    return (*less, *sorted(of_cubes, key=math.prod))


_V2 = ((1, 1), (2, 2), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_V3 = (*_V2, (16, 32), (32, 32))
_V5E = (*_V2[:2], (2, 4), *_V2[2:])  # and v6e

GENERATIONS = {
    "v2": Generation(2, 700e6, 7662 * MIB, 45e12 / 2, 700e9 / 2, _V2),
    "v3": Generation(2, 940e6, 15854 * MIB, 123e12 / 2, 900e9 / 2, _V3),
    "v4": Generation(1, 1.05e9, 31485 * MIB, 275e12, 1228e9, _cubes(64), "megacore"),
    "v5e": Generation(1, 1.5e9, 16126 * MIB, 197e12, 819e9, _V5E),
    "v5p": Generation(1, 1.75e9, 98025 * MIB, 459e12, 2765e9, _cubes(96)),
    "v6e": Generation(1, 1.75e9, 31992 * MIB, 918e12, 1640e9, _V5E),
}

_NAME = re.compile(r"(v\w+?)(?::(\d{1,9}(?:x\d{1,9}){1,2}))?", re.ASCII)
_NEAR = 3  # slices that are named instead of one that there is not


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of TPUs: a generation and the sides of its grid of chips.

    No sides mean a single device, on v2 and v3 one core of a chip.
    """

    name: str
    sides: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Returns the slice that a name such as v3:4x4, v4:2x2x1 or v3 stands for.

        Where slices have two sides, a third of 1 may be written: v3:2x2x1.

        Raises:
          CompilerError: there is no such generation, or it has no such slice.
        """
        match = _NAME.fullmatch(text)
        if match is None or match[1] not in GENERATIONS:
            raise CompilerError(
                f"unknown TPU topology {text!r}; known are {', '.join(GENERATIONS)}, "
                "alone for one device or with the sides of a slice in chips: v3:4x4, "
                "v4:2x2x1"
            )
        sides = tuple(int(side) for side in match[2].split("x")) if match[2] else ()
        topology = cls(match[1], sides)
        if sides and not topology._exists:
            raise CompilerError(
                f"no TPU topology {text!r}: {match[1]} has no such slice; the nearest "
                f"are {', '.join(map(str, topology._nearest()))}"
            )
        return topology

    @property
    def generation(self) -> Generation:
        """What is known of one device."""
        return GENERATIONS[self.name]

    @property
    def num_chips(self) -> int:
        """The number of chips."""
        return math.prod(self.sides)

    @property
    def num_devices(self) -> int:
        """The most replicas that fit on it."""
        if not self.sides:
            return 1
        return self.num_chips * self.generation.devices_per_chip

    @property
    def _exists(self) -> bool:
        slices = self.generation.slices
        flat = self.sides[2:] == (1,) and self.sides[:2] in slices
        return flat or self.sides in slices

    def _nearest(self) -> "list[Topology]":
        """Returns the slices with about as many chips, those like a cube before."""
        asked = max(1, self.num_chips)

        def distance(sides: tuple[int, ...]) -> tuple[float, int]:
            chips = math.prod(sides)
            return max(chips / asked, asked / chips), sum(sides)

        near = sorted(self.generation.slices, key=distance)[:_NEAR]
        return [Topology(self.name, sides) for sides in near]

    @property
    def one_device(self) -> "Topology":
        """The same devices, and only one of them."""
        return dataclasses.replace(self, sides=())

    @property
    def device(self) -> str:
        """What a single device is, in words."""
        chip = f"{self.name} chip"
        whole = self.generation.devices_per_chip == 1
        return f"one {chip}" if whole else f"one core of a {chip}"

    @property
    def compiler_name(self) -> str:
        """The name that libtpu knows; its smallest slice is one chip."""
        return f"{self.name}:{'x'.join(map(str, self.sides or (1, 1)))}"

    def __str__(self) -> str:
        return self.compiler_name if self.sides else self.name
