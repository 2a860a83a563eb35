r"""Make a table of latencies that a search reads, by the TPU compiler or on a device.

    python -m search.table --topology=v5e --output=v5e.json \
      --variants=efficientnet-b0,efficientnet-x-b0,efficientnet-x-b0:1.6:1.2:256

    python -m search.table --device --variants=efficientnet-x-b0 --output=mine.json

A network is a name of the catalogue, alone or scaled: name:width:depth:resolution,
with se_coefficient 1. --space draws networks of a space instead: "paper", or
module:function of your own, which returns one. --topology compiles whole networks for
one device of a TPU; with --blocks their segments, too, each by itself, and notes the
sum; --blocks=only compiles no whole network. --device times whole networks by JAX on
the device that it finds: no figures of another one.

The file is written whole after every few networks; what it has is not asked again, so
the same command goes on where it was stopped, and others add to it. That a process has
died is no answer: the next command asks again. A file of another device, batch, dtype
or of other versions is refused. `latencies.latency_table` says its format.

The exit status is 0 when all networks have milliseconds, 1 when one has none: the file
says why; 2 when there is no answer.
"""

import argparse
import dataclasses
import importlib
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import cli, console, files
from common.cli import changes, names, number, positive
from common.errors import Status, UserError, first_line
from models.variants import Variant, change
from search import latency_sources
from search.latencies import latency_table
from search.latencies.latency_table import LatencyTable, NetworkRow
from search.latencies.source_kinds import Compiled, Measured
from search.networks.scaled import scaled_network
from search.results import Estimate

_AT_ONCE = 8  # networks, until the file is written again


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.table", __doc__)
    add = parser.add_argument
    add("--output", type=_output, required=True, metavar="FILE", help="the table")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--topology", help="compile for one device of it, as v5e")
    where.add_argument("--device", action="store_true", help="time on JAX's device")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--variants", type=names, help="names, separated by commas")
    what.add_argument("--space", help='"paper", or module:function of your own')
    add("--number", type=positive, default=100, help="of the space's; default: 100")
    add("--seed", type=number(int), default=0, help="of these; default: 0")
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--dtype", default="bfloat16", help="of the arithmetic; default: %(default)s")
    add("--workers", type=positive, default=2, help="compilations at once; default: 2")
    add("--repeats", type=positive, default=30, help="timed calls; default: 30")
    add(
        "--blocks",
        nargs="?",
        choices=("no", "yes", "only"),
        const="yes",
        default="no",
        help="compile each segment by itself, too; only: no whole network",
    )
    help = "fields by the stage's number from 1: \"{3: {'fused': True}}\""
    add("--stages", type=changes, default={}, help=help)
    return parser


def _space(name: str) -> Any:
    """Return the space of a name.

    Raises:
      UserError: there is none.
    """
    module, _, attribute = name.rpartition(":")
    try:
        return getattr(importlib.import_module(module or "search.spaces"), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"--space={name}: {first_line(error)}") from error


def _networks(arguments: argparse.Namespace) -> Iterator[Variant]:
    """Yield the networks that are asked for.

    Raises:
      UserError: one of them makes no sense.
    """
    if arguments.variants:
        found = map(scaled_network, arguments.variants)
    else:
        space = _space(arguments.space)
        generators = (
            random.Random(f"{arguments.seed} {number}")
            for number in range(arguments.number)
        )
        found = (space.build(space.sample(rng)) for rng in generators)
    for variant in found:
        changed = change(variant, arguments.stages)
        digest = latency_table.digest_of(changed)  # checks that it can be built
        if changed != variant:
            name = f"{variant.name}-{digest[:8]}"
            changed = dataclasses.replace(changed, name=name)
        yield changed


class _File:
    """A table that grows, written whole each time."""

    def __init__(self, path: str, source: Compiled | Measured):
        self._path = path
        conditions = source.noted_conditions()
        self.table = LatencyTable(conditions)
        if files.kind(path, follow_links=True) is not None:
            self.table = latency_table.read(path)
            conditions.require_equal(self.table.conditions, path)
        if not self.table.conditions.versions:
            self.table = dataclasses.replace(self.table, conditions=conditions)

    def add(self, **rows: Sequence[Any]) -> None:
        """Add or replace networks or blocks, by digest, and write the file."""
        for name, some in rows.items():
            merged = {**getattr(self.table, name), **{row.digest: row for row in some}}
            self.table = dataclasses.replace(self.table, **{name: merged})
        latency_table.write(self._path, self.table)

    def row(self, variant: Variant) -> NetworkRow:
        """Return what is known of a network; a new row where nothing is."""
        new = NetworkRow.of(variant)
        return self.table.networks.get(new.digest, new)


def _fill(file: _File, source: Any, variants: Sequence[Variant], *, sums: bool) -> None:
    """Ask a source for the networks that the table lacks, and note the answers."""

    def lacks(variant: Variant) -> bool:
        row = file.row(variant)
        return (row.sum_ms if sums else row.ms) is None and not row.reason

    different: dict[str, Variant] = {}
    for variant in variants:
        different.setdefault(latency_table.digest_of(variant), variant)
    left = [variant for variant in different.values() if lacks(variant)]
    for start in range(0, len(left), _AT_ONCE):
        some = left[start : start + _AT_ONCE]
        answers = zip(some, source.many(some), strict=True)
        file.add(networks=[_noted(file.row(one), ms, sums=sums) for one, ms in answers])
        console.say(f"{min(start + _AT_ONCE, len(left))} of {len(left)}", stays=False)


def _noted(row: NetworkRow, found: Estimate, *, sums: bool) -> NetworkRow:
    """Return a row with an answer in it."""
    if not sums:
        error = found.error if found.source == latency_table.MEASURED else None
        return dataclasses.replace(
            row,
            ms=found.ms,
            source=found.source,
            reason=found.reason,
            error=error,
            is_final=found.is_final,
        )
    return dataclasses.replace(
        row,
        sum_ms=found.ms,
        reason=row.reason or found.reason,
        source=row.source or found.source,
        is_final=row.is_final and found.is_final,
    )


def _source(arguments: argparse.Namespace) -> Compiled | Measured:
    common = {"batch": arguments.batch, "dtype": arguments.dtype}
    if arguments.device:
        found = latency_sources.device(repeats=arguments.repeats, **common)
        if found.device.platform == "cpu":
            console.warn("JAX finds a CPU: these are no figures of an accelerator")
        return found
    return latency_sources.whole(
        arguments.topology, workers=arguments.workers, **common
    )


def _run(
    arguments: argparse.Namespace, source: Compiled | Measured, variants: list[Variant]
) -> LatencyTable:
    """Ask for all that is to be known; return the table."""
    file = _File(arguments.output, source)
    if arguments.blocks != "only":
        _fill(file, source, variants, sums=False)
    if arguments.blocks != "no":
        with latency_sources.sum_of_parts(
            arguments.topology,
            batch=arguments.batch,
            dtype=arguments.dtype,
            workers=arguments.workers,
        ) as parts:
            file.add(blocks=parts.blocks(variants))
            _fill(file, parts, variants, sums=True)
    return file.table


def text(table: LatencyTable, variants: Sequence[Variant]) -> str:
    """Return the networks' rows for people."""
    lines = [("network", "ms", "sum of segments", "")]
    for variant in variants:
        row = table.networks[latency_table.digest_of(variant)]
        lines.append((variant.name, _ms(row.ms), _ms(row.sum_ms), row.reason))
    rows = console.table(lines, right=(1, 2))
    return "\n".join([f"{table.conditions}; {len(table.blocks)} blocks", *rows])


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _output(text: str) -> str:
    """Return a path that may be written to; known before an hour of work."""
    path = cli.path(text)
    if not Path(path).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {Path(path).parent}")
    try:
        files.refuse_foreign(path, latency_table.is_table)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    if arguments.device and arguments.blocks != "no":
        raise UserError("--device times whole networks: leave --blocks out")
    variants = list(_networks(arguments))
    with _source(arguments) as source:
        table = _run(arguments, source, variants)
    print(text(table, variants))
    rows = [table.networks[latency_table.digest_of(one)] for one in variants]
    return Status.NO if any(row.reason for row in rows) else Status.OK


if __name__ == "__main__":
    sys.exit(main())
