"""TPU slices by name."""

import dataclasses
import math
import re

from common.accelerators import CHIPS_PER_HOST, TPUS, Tpu
from tpu_compiler.errors import CompilerError


def _cubes(most: int) -> tuple[tuple[int, ...], ...]:
    """Return the slices of up to so many cubes of 4x4x4 chips, and those of less."""
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

# The sides in chips of those that there are, the smallest first; published on the pages
# of `accelerators.Tpu` (AxBxC: all multiples of 4, A <= B <= C), those of v2 and v3
# from memory. And one chip, which the compiler knows, too. libtpu takes more.
SLICES = {
    "v2": _V2,
    "v3": _V3,
    "v4": _cubes(64),
    "v5e": _V5E,
    "v5p": _cubes(96),
    "v6e": _V5E,
}
# How the compiler is told that a device is a whole chip, where that is not its default.
_CHIP_CONFIGS = {"v4": "megacore"}

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
        """Return the slice that a name such as v3:4x4, v4:2x2x1 or v3 stands for.

        Where slices have two sides, a third of 1 may be written: v3:2x2x1.

        Raises:
          CompilerError: there is no such generation, or it has no such slice.
        """
        match = _NAME.fullmatch(text)
        if match is None or match[1] not in SLICES:
            raise CompilerError(
                f"unknown TPU topology {text!r}; known are {', '.join(SLICES)}, "
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
    def generation(self) -> Tpu:
        """What is known of one device."""
        return TPUS[self.name]

    @property
    def slices(self) -> tuple[tuple[int, ...], ...]:
        """The sides of all slices of this generation, the smallest first."""
        return SLICES[self.name]

    @property
    def chip_config(self) -> str | None:
        """How the compiler is told of a device, None for its default."""
        return _CHIP_CONFIGS.get(self.name)

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
    def chips_per_host(self) -> int:
        """Of each host, as the TPU API makes them; of a smaller slice all."""
        is_one = self.num_chips <= self.generation.largest_host
        return self.num_chips if is_one else CHIPS_PER_HOST

    @property
    def hosts(self) -> int:
        """The number of hosts."""
        return self.num_chips // self.chips_per_host

    @property
    def rings(self) -> tuple[bool, ...]:
        """Which sides close to a ring; where slices have three, all or none."""
        closes = [side % self.generation.ring == 0 for side in self.sides]
        has_three = len(self.slices[0]) == 3
        return tuple(one and (all(closes) or not has_three) for one in closes)

    @property
    def _exists(self) -> bool:
        flat = self.sides[2:] == (1,) and self.sides[:2] in self.slices
        return flat or self.sides in self.slices

    def _nearest(self) -> "list[Topology]":
        """Return the slices with about as many chips, those like a cube before."""
        asked = max(1, self.num_chips)

        def distance(sides: tuple[int, ...]) -> tuple[float, int]:
            chips = math.prod(sides)
            return max(chips / asked, asked / chips), sum(sides)

        near = sorted(self.slices, key=distance)[:_NEAR]
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
