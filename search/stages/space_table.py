"""The blocks of a whole space, each compiled once. Imports no framework.

A search asks for the time of thousands of networks, which share a few hundred different
blocks. These are compiled first, some two seconds each, into a table in the search's
folder; from then on a network's time is a sum. A search that is killed goes on with the
blocks that it lacks.
"""

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import console
from common.errors import UserError
from models.variants import Variant
from performance.segments import InferenceOptions, segments_of
from search.latencies import latency_table
from search.latencies.latency_table import LatencyTable
from search.networks.layout import Network
from search.networks.space import Space
from search.supernets.cost_parts import Terms

FILE = "table.json"
_SEED = 0
# So many draws for each block that is known, without a new one, end the search for
# more: a block that is in one of as many networks is missed once in e^8 times.
_PATIENCE = 8
_LEAST_DRAWS = 500
_AT_ONCE = 4  # networks, until the file is written again


def is_sum(source: Any) -> bool:
    """Whether a source compiles the blocks of networks, each by itself."""
    return hasattr(source, "blocks") and source.name == latency_table.SUM


def gin(path: Path) -> tuple[str, str]:
    """Return a table as a source in a config, and the line that it needs there."""
    function = "of_space/latency_sources.table"
    return f"@{function}()", f"{function}.path = {str(path)!r}"


def cover(space: Space, options: InferenceOptions) -> dict[str, Variant]:
    """Return a network for each different block of a space, by the block's digest.

    First come networks that together have every part of every stage, however rare it
    is; then some are drawn until nothing new comes. These alone are there where a space
    has too many combinations to go through them, and for what the first ones have only
    in networks that are not valid: there a block may be missed that is in one network
    of thousands. The first network that has a new block stands for all that it has
    anew.
    """
    found: dict[str, Variant] = {}
    looked_at: set[str] = set()

    def adds(network: Network) -> bool:
        variant = space.build(network)
        if variant.name in looked_at:  # by its digest: small spaces repeat themselves
            return False
        looked_at.add(variant.name)
        known = len(found)
        for digest in digests(variant, options):
            found.setdefault(digest, variant)
        return len(found) > known

    for network in _with_every_part(space):
        adds(network)
    last = draw = 0
    rng = random.Random(_SEED)
    while draw - last < max(_LEAST_DRAWS, _PATIENCE * len(found)):
        draw += 1
        if adds(space.sample(rng)):
            last = draw
    return found


def _with_every_part(space: Space) -> Iterator[Network]:
    """Yield valid networks that together have every part of the space's networks."""
    with contextlib.suppress(UserError):  # too many combinations, or invalid ones
        for network in Terms(space).examples():
            if not space.why_not(network):
                yield network


def digests(variant: Variant, options: InferenceOptions) -> list[str]:
    """Return the digests of a network's blocks."""
    return [latency_table.segment_digest(s) for s in segments_of(variant, options)]


def make(space: Space, source: Any, path: Path) -> LatencyTable:
    """Compile the blocks of a space that a table lacks, and return the table.

    Args:
      space: of networks.
      source: `latency_sources.sum_of_parts`.
      path: of the table; it is written again after every few networks.

    Raises:
      UserError: the compiler is not installed, the file is of other conditions, no
        block compiles, or a process has died of one: all others are in the file then.
      OSError: it cannot be written.
    """
    conditions = source.noted_conditions()
    table = LatencyTable(conditions)
    if path.exists():
        table = latency_table.read(path)
        conditions.require_equal(table.conditions, path)
    options = InferenceOptions(batch=conditions.batch, dtype=conditions.dtype)
    needed = cover(space, options)
    while left := _lacking(needed, table):
        console.say(
            f"{len(needed) - len(left)} of {len(needed)} blocks are compiled",
            stays=False,
        )
        table = _add(table, source, _some(left), path)
        if left.keys() <= _lacking(needed, table).keys():
            raise UserError(f"{path}: the compiler says nothing of {next(iter(left))}")
    console.end_live_line()
    _require_final(table, path)
    return table


def _require_final(table: LatencyTable, path: Path) -> None:
    """Refuse a table without times that it may have: its networks would be left out."""
    open_ = [row.reason for row in table.blocks.values() if not row.is_final]
    if open_:
        raise UserError(
            f"{path} lacks {console.count(len(open_), 'block')}: {open_[0]}. The same "
            "command asks for them again; latency_sources.sum_of_parts.workers = 1 "
            "takes less memory"
        )


def _lacking(needed: dict[str, Variant], table: LatencyTable) -> dict[str, Variant]:
    return {d: variant for d, variant in needed.items() if d not in table.blocks}


def _some(left: dict[str, Variant]) -> list[Variant]:
    """Return a few of the networks that have blocks which are lacking."""
    return list({variant.name: variant for variant in left.values()}.values())[
        :_AT_ONCE
    ]


def _add(
    table: LatencyTable, source: Any, variants: Sequence[Variant], path: Path
) -> LatencyTable:
    rows = {row.digest: row for row in source.blocks(variants)}
    table = dataclasses.replace(table, blocks={**table.blocks, **rows})
    latency_table.write(path, table)
    return table
