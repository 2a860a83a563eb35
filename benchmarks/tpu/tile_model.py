"""How far the tile model of latencies is off, by generation: a table and JSON.

    python -m benchmarks.tpu.tile_model --topologies=v3,v5e

Reads the compiled networks of search/latencies/data; nothing is compiled. Each one is
predicted by the fit to all others; so are all networks of one base, left out together.
Beside the features that the model takes stand all sets of four of them, and, as the
honest figure of having chosen one by its error, each network predicted by the set that
is best without it.

Exit status: 0 every error is at most 3 % rms, 1 one is not, 2 there is no answer.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.support import machine, results
from common import cli, console
from common.cli import names
from common.errors import Status
from search import latency_sources
from search.latencies.tile_features import FEATURES
from search.latencies.tile_model import (
    Fitted,
    TileModel,
    best_set,
    coefficients,
    left_out,
    rms,
)

LIMIT = 0.03
_FOUR = list(itertools.combinations(FEATURES, 4))
_CONDITIONS = (
    "error: predicted over compiled milliseconds less 1, the network left out of the "
    "fit; rms over all networks",
    "choice_left_out: each network by the set of four features whose rms over the "
    "others is least",
    "another_base: all networks scaled from one base left out together",
)
_DOES_NOT_SHOW = (
    "a TPU: the milliseconds that are predicted are the compiler's estimates; networks "
    "outside of the model's domain, as EfficientNetV2; how the features came to be "
    "chosen among more, for which see search/latencies/tile_model.py"
)


def of_choice(rows: Sequence[Fitted]) -> list[float]:
    """Return each network's error by the set that is best without it."""
    found = []
    for row in rows:
        others = [other for other in rows if other is not row]
        best = best_set(others, _FOUR)
        weights = coefficients(others, best)
        places = [FEATURES.index(name) for name in best]
        found.append(float(row.features[places] @ weights) / row.ms - 1)
    return found


def describe(topology: str, model: TileModel) -> dict[str, Any]:
    """Return the report of a generation."""
    sets = [
        {"features": chosen, "rms": rms(left_out(model.rows, chosen).values())}
        for chosen in _FOUR
    ]
    return {
        "topology": topology,
        "features": model.chosen,
        "ms_per_1e9": model.weights.tolist(),
        "rms": model.error,
        "worst": max(model.errors.values(), key=abs),
        "another_base": model.error_of_other_kinds,
        "choice_left_out": rms(of_choice(model.rows)),
        "sets_of_four": sorted(sets, key=lambda one: one["rms"]),
        "error_of_sums": model.table.error_of_sum(),
        "networks": [
            {
                "name": row.row.name,
                "ms": row.ms,
                "error": model.errors[row.row.digest],
            }
            for row in model.rows
        ],
    }


def text(report: Sequence[dict[str, Any]]) -> str:
    """Return the report for people."""
    lines = []
    for one in report:
        rows = [("network", "ms", "left out")]
        rows += [
            (row["name"], f"{row['ms']:.2f}", f"{100 * row['error']:+.1f} %")
            for row in one["networks"]
        ]
        lines += [*console.table(rows, right=True)]
        lines.append(
            f"{one['topology']}: {len(one['networks'])} networks, rms "
            f"{100 * one['rms']:.1f} %, worst {100 * one['worst']:+.1f} %; the choice "
            f"of the features left out, too: {100 * one['choice_left_out']:.1f} %"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.tile_model", __doc__)
    parser.add_argument(
        "--topologies",
        type=names,
        default=["v3", "v4", "v5e", "v6e"],
        help="of which search/latencies/data has networks; default: all",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    models = {name: latency_sources.tile_model(name) for name in arguments.topologies}
    found = [describe(name, model) for name, model in models.items()]
    print(text(found))
    conditions = next(iter(models.values())).table.conditions
    report = {
        "benchmark": "tpu.tile_model",
        "generations": found,
        "settings": {"batch": conditions.batch, "dtype": conditions.dtype},
        "conditions": _CONDITIONS,
        "machine": hardware,
        "versions": dict(conditions.versions),
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)
    return Status.NO if any(one["rms"] > LIMIT for one in found) else Status.OK


if __name__ == "__main__":
    sys.exit(main())
