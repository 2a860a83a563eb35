"""How long a step's all-reduces take, by an estimate of ours: the compiler makes none.

A group of chips sums up in two passes, as everybody's part has to reach all others and
the sums have to come back: a reduce-scatter and an all-gather. Each pass takes

    hops * HOP_SECONDS + bytes * (chips - 1) / chips / (links * link_bytes_per_second)

with the hops and links of the block of chips that the group is. Along a side of n chips
there are n - 1 hops and a link that a chip at its end has, or, where the side closes to
a ring, n / 2 hops and two links. The two cores of a chip of v2 and v3 share its links,
and what they sum up between them takes no time here. Nor does anything else than links:
no memory, no arithmetic, no waiting for the slowest replica. And nothing overlaps.
"""

import dataclasses
import math
from collections.abc import Iterable

from tpu_compiler import Topology
from tpu_compiler.costs import Collective

# "Typically around 1 us", whatever is sent: "How to Scale Your Model" of the JAX team,
# part 3. Small all-reduces, as those of batch norm, take little else.
HOP_SECONDS = 1e-6
_HOST = (2, 2, 1)  # chips


@dataclasses.dataclass(frozen=True)
class GroupEstimate:
    """A step's all-reduces over groups of one size.

    Attributes:
      group_size: in replicas.
      runs: how many there are in a step.
      bytes: of them all, on each replica.
      milliseconds: that they take, one after the other.
    """

    group_size: int
    runs: int
    bytes: int
    milliseconds: float


def estimate(
    collectives: Iterable[Collective], topology: Topology
) -> tuple[GroupEstimate, ...]:
    """Return a row for each size of groups; other collectives have none.

    Args:
      collectives: of a compiled step.
      topology: the slice, all of whose devices are replicas.
    """
    return tuple(
        GroupEstimate(
            one.group_size,
            one.runs,
            one.run_bytes,
            1e3 * _seconds(one.group_size, one.runs, one.run_bytes, topology),
        )
        for one in collectives
        if one.kind == "all-reduce"
    )


def _seconds(replicas: int, runs: int, size: int, topology: Topology) -> float:
    """Return the time of all-reduces of so many bytes, all of them together."""
    generation = topology.generation
    chips = math.ceil(replicas / generation.devices_per_chip)
    if chips == 1:
        return 0.0
    hops = links = 0
    block = _block(chips, topology.sides)
    for length, side, ring in zip(block, topology.sides, topology.rings, strict=True):
        closes = ring and length == side
        hops += length // 2 if closes else length - 1
        links += 2 if closes else min(1, length - 1)
    sent = size * (chips - 1) / chips
    one_pass = runs * hops * HOP_SECONDS + sent / (
        links * generation.link_bytes_per_second
    )
    return 2 * one_pass


def _block(chips: int, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of the block that so many consecutive chips of a slice are.

    Consecutive are the four chips of a host, and hosts along the first side, the second
    and the third: as libtpu 0.0.52 lists them for v3:4x8, v5e:4x8 and v4:4x4x8.
    """
    block = [1] * len(sides)
    for limits in (_HOST, sides):
        for i, limit in enumerate(limits[: len(sides)]):
            missing = math.ceil(chips / math.prod(block))
            block[i] *= max(1, min(limit // block[i], sides[i] // block[i], missing))
    return tuple(block)
