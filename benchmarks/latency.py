"""README's table of families, by the compiler of TPUs: Markdown and one line of JSON.

python -m benchmarks.latency --numbers=0 --families=efficientnet,efficientnet-x

Compiles the inference of whole networks for one device of a TPU, and of their parts by
themselves: how much faster the families are than the first one, and how far the sum of
the parts is off the whole. No TPU is run. All twenty networks take an hour of two
cores, and nothing the second time.

The exit status is 0 when everything compiles and fits, else 1; the reasons stand under
the table.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.support import machine
from common.cli import names, positive
from common.errors import reported
from models import get_variant
from performance import latency
from performance.segments import Form
from tpu_compiler import Compiler, Topology

_FAMILIES = {
    "efficientnet": "EfficientNet",
    "efficientnet-x": "X",
    "efficientnet-x-tpu": "X-TPU",
    "efficientnet-x-gpu": "X-GPU",
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
    "no TPU was run: milliseconds are sums of the compiler's cycle estimates and weak "
    "by themselves; ratios are good to 6 to 8 %, and less than 5 % means nothing; not "
    "training; the sum's error under other conditions"
)

# Milliseconds by family and number, None where there is no estimate.
_Times = Mapping[tuple[str, str], float | None]


def table(times: _Times, families: Sequence[str], numbers: Sequence[str]) -> str:
    """Returns README's table: a row for each number, a column for each family."""
    labels = [_FAMILIES.get(family, family) for family in families]
    heads = ["N", *labels]
    if labels[1:]:
        heads.append(f"{labels[0]} : {', '.join(labels[1:])}")
    lines = [heads, ["---"] * len(heads)]
    for number in numbers:
        cells = [_milliseconds(times[family, number]) for family in families]
        found = ratios(times, families, number).values()
        if found:
            cells.append(", ".join("-" if r is None else f"{r:.2f}" for r in found))
        lines.append([number, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _milliseconds(value: float | None) -> str:
    """Returns three digits."""
    return "-" if value is None else f"{value:.{0 if value >= 100 else 1}f}"


def ratios(
    times: _Times, families: Sequence[str], number: str
) -> dict[str, float | None]:
    """Returns how much faster than the first family the others are, by family."""
    first, *others = families
    base = times[first, number]
    return {
        family: base / own if base and (own := times[family, number]) else None
        for family in others
    }


def errors(networks: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Returns how far the sums are off, None where there are none."""
    found = [one["error_of_sum"] for one in networks if one["error_of_sum"] is not None]
    if not found:
        return None
    return {
        "least": min(found),
        "greatest": max(found),
        "mean_absolute": sum(map(abs, found)) / len(found),
    }


def _row(network: Mapping[str, Any]) -> dict[str, Any]:
    kept = "name", "milliseconds", "sum_of_parts_ms", "error_of_sum"
    return {name: network[name] for name in kept}


def _failures(networks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields why networks have no estimate or no sum."""
    for network in networks:
        if not network["fits"]:
            yield f"{network['name']}: {network['message']}"
        if network["parts_message"]:
            yield f"{network['name']}: {network['parts_message']}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--topology", default="v3", help="one device of it is used; default: v3")
    add("--batch", type=positive, default=64, help="images at once; default: 64")
    add("--dtype", default="bfloat16", help="or float32; default: bfloat16")
    add("--numbers", type=names, default=list("01234"), help="default: 0,1,2,3,4")
    add(
        "--families",
        type=names,
        default=list(_FAMILIES),
        help=f"the others are compared with the first one; default: "
        f"{','.join(_FAMILIES)}",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = _parse(argv)
    hardware = machine.describe()  # before this benchmark is part of the load
    of = {
        (family, number): f"{family}-b{number}"
        for number in options.numbers
        for family in options.families
    }
    with reported():
        variants = [get_variant(name) for name in of.values()]
        form = Form(batch=options.batch, dtype=options.dtype)
        topology = Topology.parse(options.topology)
        with Compiler(2) as compiler:
            found = latency.estimate(variants, compiler, topology, form, blocks="yes")
    networks = found["networks"]
    times = {
        place: network["milliseconds"]
        for place, network in zip(of, networks, strict=True)
    }
    failures = list(_failures(networks))
    print(table(times, options.families, options.numbers), *failures, sep="\n")
    report = {
        "benchmark": "latency",
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
        "compiler": found["compiler"],
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "does_not_show": _DOES_NOT_SHOW,
    }
    print(json.dumps(report))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
