"""The families beside one another, by the TPU's compiler: Markdown and a line of JSON.

    python -m benchmarks.tpu.latency --numbers=0 --families=efficientnet,efficientnet-x

Compiles the inference of whole networks for one device of a TPU, and of their parts by
themselves: how much faster the families are than the first one, and how far the sum of
the parts is off the whole. No TPU is run. All 24 networks take more than an hour of two
cores, and nothing the second time; V2 ends at number 3.

The exit status is 0 when everything compiles and fits, 1 when something does not: the
reasons are below the table; 2 when there is no answer.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.cli import names, positive
from common.errors import Status
from models import VARIANTS, get_variant
from performance.latency_estimates import NetworkLatency, estimate
from performance.segments import InferenceOptions
from tpu_compiler import Compiler, Topology

FAMILIES = {
    "efficientnet": "EfficientNet",
    "efficientnet-x": "X",
    "efficientnet-x-tpu": "X-TPU",
    "efficientnet-x-gpu": "X-GPU",
    "efficientnetv2": "V2",
}
_CONDITIONS = (
    "inference of one batch, uint8 pixels NHWC to logits, networks of the table in "
    "their plain form; weights are float32 arguments, their values do not matter",
    "ratio: milliseconds of the first family / milliseconds of the other, of the same "
    "number",
    "error_of_sum: sum of the parts, each compiled by itself and equal ones once, over "
    "the whole, less 1",
)
_DOES_NOT_SHOW = (
    "a TPU: milliseconds are sums of the compiler's cycle estimates and weak "
    "by themselves; no ratio was confirmed on a TPU, and equal forms of one network "
    "differ by some percent; not "
    "training; the sum's error under other conditions"
)

# Milliseconds by family and number, None where there is no estimate.
_Times = Mapping[tuple[str, str], float | None]


def table(times: _Times, families: Sequence[str], numbers: Sequence[str]) -> str:
    """Return the table in Markdown: a row for each number, a column for each family."""
    labels = [FAMILIES.get(family, family) for family in families]
    heads = ["N", *labels]
    if labels[1:]:
        heads.append(f"{labels[0]} : {', '.join(labels[1:])}")
    lines = [heads, ["---"] * len(heads)]
    for number in numbers:
        cells = [_milliseconds(times.get((family, number))) for family in families]
        found = ratios(times, families, number).values()
        if found:
            cells.append(", ".join("-" if r is None else f"{r:.2f}" for r in found))
        lines.append([number, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _milliseconds(value: float | None) -> str:
    """Return three digits."""
    return "-" if value is None else f"{value:.{0 if value >= 100 else 1}f}"


def ratios(
    times: _Times, families: Sequence[str], number: str
) -> dict[str, float | None]:
    """Return how much faster than the first family the others are, by family."""
    first, *others = families
    base = times.get((first, number))
    return {
        family: base / own if base and (own := times.get((family, number))) else None
        for family in others
    }


def errors(networks: Sequence[NetworkLatency]) -> dict[str, float] | None:
    """Return how far the sums are off, None where there are none."""
    found = [one.error_of_sum for one in networks if one.error_of_sum is not None]
    if not found:
        return None
    return {
        "least": min(found),
        "greatest": max(found),
        "mean_absolute": sum(map(abs, found)) / len(found),
    }


def _known(families: Sequence[str], numbers: Sequence[str]) -> list[tuple[str, str]]:
    """Return families with their numbers; not every family has every number.

    Raises:
      ModelError: one has none of them, or nobody has one.
    """
    keys = [(f, n) for n in numbers for f in families if f"{f}-b{n}" in VARIANTS]
    known = {one for key in keys for one in key}
    for family, number in itertools.product(families, numbers):
        if not {family, number} <= known:
            get_variant(f"{family}-b{number}")
    return keys


def _row(network: NetworkLatency) -> dict[str, Any]:
    return {
        "name": network.name,
        "milliseconds": network.milliseconds,
        "sum_of_parts_ms": network.sum_ms,
        "error_of_sum": network.error_of_sum,
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.latency", __doc__)
    add = parser.add_argument
    add("--topology", default="v3", help="one device of it is used; default: v3")
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--dtype", default="bfloat16", help="or float32; default: bfloat16")
    add("--numbers", type=names, default=list("01234"), help="default: 0,1,2,3,4")
    add(
        "--families",
        type=names,
        default=list(FAMILIES),
        help=f"the others are compared with the first one; default: "
        f"{','.join(FAMILIES)}",
    )
    return parser


@cli.command(_parser)
def main(options: argparse.Namespace) -> Status:
    """Run the command line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    keys = _known(options.families, options.numbers)
    variants = [get_variant(f"{family}-b{number}") for family, number in keys]
    inference = InferenceOptions(batch=options.batch, dtype=options.dtype)
    topology = Topology.parse(options.topology)
    with Compiler(2) as compiler:
        found = estimate(variants, compiler, topology, inference, blocks="yes")
    networks = found.networks
    times = {
        key: network.milliseconds for key, network in zip(keys, networks, strict=True)
    }
    failures = [f"{one.name}: {why}" for one in networks for why in one.failures]
    print(table(times, options.families, options.numbers), *failures, sep="\n")
    report = {
        "benchmark": "tpu.latency",
        "networks": [_row(network) for network in networks],
        "ratios": {
            number: ratios(times, options.families, number)
            for number in options.numbers
        },
        "error_of_sum": errors(networks),
        "failures": failures,
        "settings": {
            "topology": str(topology),
            "device": topology.device,
            "batch": options.batch,
            "dtype": options.dtype,
        },
        "conditions": _CONDITIONS,
        "machine": hardware,
        "compiler": found.versions,
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, options.output)
    return Status.NO if failures else Status.OK


if __name__ == "__main__":
    sys.exit(main())
