"""Which kind of block each stage of EfficientNet-X-B0 wants, by latency alone: JSON.

    python -m benchmarks.tpu.stage_choices --topologies=v3,v6e

Takes EfficientNet-X-B0 and gives one stage at a time other blocks: fused or depthwise,
kernel 3 or 5, and with the kernel that it has, expansion 3 beside its 6. Every block is
compiled by itself for one device of a TPU; a stage's milliseconds are the sum of its
blocks. Some 70 different blocks a generation: minutes, and nothing the second time.

Exit status: 0 everything compiles, 1 some block does not, 2 there is no answer.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.support import machine, results
from common import cli, console
from common.cli import names, positive
from common.errors import Status
from models import get_variant, scaling
from models.variants import Variant, change
from performance.segments import InferenceOptions, segments_of
from search import latency_sources
from search.latencies.latency_table import BlockRow, segment_digest

BASE = "efficientnet-x-b0"
_KERNELS = (3, 5)
_OTHER_EXPANSION = 3
_CONDITIONS = (
    "inference of one batch on one device; one stage of efficientnet-x-b0 is changed, "
    "the others stay; strides, channels, repeats, activation and squeeze-and-excite "
    "are the stage's own",
    "milliseconds: the stage's blocks, each compiled by itself, added",
    "in stage 1, a space-to-depth section, kernels are halved and rounded up: 3 is a "
    "2x2, 5 a 3x3 on half the pixels",
)
_DOES_NOT_SHOW = (
    "a TPU: milliseconds are the compiler's cycle estimates; accuracy, which no table "
    "of latencies knows; what the compiler fuses across blocks"
)


@dataclasses.dataclass(frozen=True)
class StageChoice:
    """A stage with one kind of block.

    Attributes:
      stage: its number, from 1.
      fused: a dense convolution in place of expansion and depthwise.
      kernel_size: as the stage says it, before space-to-depth halves it.
      expand_ratio: expanded channels per channel that enters.
    """

    stage: int
    fused: bool
    kernel_size: int
    expand_ratio: int

    @property
    def words(self) -> str:
        """What kind of block it is."""
        kind = "fused" if self.fused else "depthwise"
        return f"{kind} {self.kernel_size}x{self.kernel_size}, e{self.expand_ratio}"

    def variant(self) -> Variant:
        """Return the network whose stage is of this kind."""
        fields = dataclasses.asdict(self)
        return change(get_variant(BASE), {fields.pop("stage"): fields})


def choices() -> Iterator[StageChoice]:
    """Yield what each stage may be."""
    for number, stage in enumerate(get_variant(BASE).stages, start=1):
        for fused in (True, False):
            for kernel in _KERNELS:
                yield StageChoice(number, fused, kernel, stage.expand_ratio)
            if stage.expand_ratio > _OTHER_EXPANSION:
                yield StageChoice(number, fused, stage.kernel_size, _OTHER_EXPANSION)


def stage_ms(
    choice: StageChoice, blocks: Mapping[str, BlockRow], options: InferenceOptions
) -> tuple[float | None, str]:
    """Return the milliseconds of the changed stage, or None and why."""
    variant = choice.variant()
    numbers = scaling.stage_of_block(variant)
    segments = segments_of(variant, options)[1:-1]
    total = 0.0
    for number, segment in zip(numbers, segments, strict=True):
        if number == choice.stage:
            row = blocks[segment_digest(segment)]
            if row.ms is None:
                return None, f"{segment.name}: {row.reason}"
            total += row.ms
    return total, ""


def rows(
    topology: str, blocks: Mapping[str, BlockRow], options: InferenceOptions
) -> list[dict[str, Any]]:
    """Return the report's rows of a generation."""
    found = []
    for choice in choices():
        ms, reason = stage_ms(choice, blocks, options)
        own = get_variant(BASE).stages[choice.stage - 1]
        found.append(
            {
                "topology": topology,
                **dataclasses.asdict(choice),
                "ms": ms,
                "reason": reason,
                "of_x_b0": own
                == dataclasses.replace(
                    own,
                    fused=choice.fused,
                    kernel_size=choice.kernel_size,
                    expand_ratio=choice.expand_ratio,
                ),
            }
        )
    return found


def text(found: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for people: a line for each kind of block, a column a stage."""
    lines = []
    stages = sorted({row["stage"] for row in found})
    for topology in dict.fromkeys(row["topology"] for row in found):
        mine = [row for row in found if row["topology"] == topology]
        kinds = dict.fromkeys(_kind(row) for row in mine)
        table = [(topology, *(f"stage {number}" for number in stages))]
        for kind in kinds:
            by_stage = {row["stage"]: row for row in mine if _kind(row) == kind}
            cells = (_cell(by_stage.get(number)) for number in stages)
            table.append((kind, *cells))
        lines += [*console.table(table, right=True), ""]
    return "\n".join(lines)


def _kind(row: Mapping[str, Any]) -> str:
    kind = "fused" if row["fused"] else "depthwise"
    small = row["expand_ratio"] == _OTHER_EXPANSION
    kernel = "own kernel, expansion 3" if small else f"{row['kernel_size']}x"
    return f"{kind} {kernel}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["ms"] is None:
        return "-"
    return f"{row['ms']:.2f}" + "*" * row["of_x_b0"]


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.stage_choices", __doc__)
    add = parser.add_argument
    add(
        "--topologies",
        type=names,
        default=["v3", "v6e"],
        help="one device of each is used; default: v3,v6e",
    )
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--workers", type=positive, default=2, help="compilations at once; default: 2")
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    options = InferenceOptions(batch=arguments.batch, dtype="bfloat16")
    variants = [choice.variant() for choice in choices()]
    found: list[dict[str, Any]] = []
    versions: Mapping[str, str] = {}
    for topology in arguments.topologies:
        with latency_sources.sum_of_parts(
            topology,
            batch=options.batch,
            dtype=options.dtype,
            workers=arguments.workers,
        ) as source:
            blocks = {row.digest: row for row in source.blocks(variants)}
            versions = source.noted_conditions().versions
        found += rows(topology, blocks, options)
    print(text(found))
    report = {
        "benchmark": "tpu.stage_choices",
        "rows": found,
        "base": BASE,
        "settings": {
            "topologies": arguments.topologies,
            "batch": options.batch,
            "dtype": options.dtype,
        },
        "conditions": _CONDITIONS,
        "machine": hardware,
        "compiler": versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    return Status.NO if any(row["ms"] is None for row in found) else Status.OK


if __name__ == "__main__":
    sys.exit(main())
