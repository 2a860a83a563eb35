"""Latency-aware compound scaling against the published rows, by the TPU compiler.

    python -m benchmarks.tpu.scaling --topologies=v5e,v3 --output=FILE

For each generation EfficientNet-X-B0 is scaled to the times of X-B1 to X-B5 there; what
is found stands beside the published rows, other strategies at the same time and
EfficientNetV2. Latency is the compiler's, top-1 is predicted from published results:
nothing was trained and no TPU is run. Some fifty networks a generation are compiled,
which takes an hour of two cores, and nothing the second time.

Exit status: 0 every network is within 3 % of its target, 1 one is not, 2 there is no
answer.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.support import machine, results
from common import cli, extras
from common.console import say
from common.errors import Status

BASE = "efficientnet-x-b0"
TARGETS = tuple(f"efficientnet-x-b{number}" for number in range(1, 6))
REFERENCES = (
    *TARGETS,
    *(f"efficientnet-x-tpu-b{number}" for number in range(1, 6)),
    *(f"efficientnet-x-gpu-b{number}" for number in range(1, 5)),
    *(f"efficientnetv2-{name}" for name in ("b0", "b1", "b2", "b3", "s")),
)
_CONDITIONS = (
    "inference of one batch, uint8 pixels to logits, on one device; the tile model "
    "ranks all sizes; what is taken is compiled whole and repaired until within 3 %",
    "top-1 of EfficientNet-X is predicted by three forms of error, each fitted to 40 "
    "resamples of published families; a pair is compared fit by fit",
    "top-1 of EfficientNetV2 is published, with a recipe of its own",
)
_DOES_NOT_SHOW = (
    "a TPU, or any training: milliseconds are sums of the compiler's cycle estimates, "
    "and a predicted top-1 is off by a point for a family that the fit has not seen; "
    "that networks as wide and deep as ours keep to it"
)


def shares(network: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float]:
    """Return how a network's growth divides among the axes, by logarithms.

    Args:
      network: of `search.families.family.Member.as_json`.
      base: likewise.

    Returns:
      Shares of log(depth x width^2 x resolution^2), which is about that of the MACs;
      depth counts blocks. None where nothing has grown.
    """
    growth = {
        "depth": math.log(network["blocks"] / base["blocks"]),
        "width": 2 * math.log(network["width"] / base["width"]),
        "resolution": 2 * math.log(network["resolution"] / base["resolution"]),
    }
    total = sum(growth.values())
    return {axis: value / total for axis, value in growth.items()} if total else {}


def with_shares(family: dict[str, Any]) -> dict[str, Any]:
    """Return a family's report with the shares of all networks of its targets.

    Stage by stage it says only what was chosen.
    """
    base = {"blocks": 16, "width": 1.0, "resolution": 224}  # EfficientNet-X-B0
    for outcome in family["outcomes"]:
        rivals = [rival["network"] for rival in outcome["rivals"]]
        others = [*filter(None, rivals), *outcome["by_form"].values()]
        for network in (outcome["chosen"], *others):
            network["shares"] = shares(network, base)
        for network in (*others, *outcome["finalists"]):
            network.pop("stages", None)
    return family


def _search(topology: str) -> dict[str, Any]:
    """Return what the search finds for one device of a generation."""
    from search import latency_sources
    from search.accuracies.prediction import Surrogate
    from search.families import lacs_text
    from search.scaling import ScalingSearch
    from search.scaling_search import Scaling

    model = latency_sources.tile_model(topology)
    parts = latency_sources.sum_of_parts(topology)
    exact = latency_sources.whole(topology)
    with contextlib.closing(exact), contextlib.closing(parts):
        settings = Scaling(
            name=f"efficientnet-x-{topology}-b",
            base=BASE,
            targets=TARGETS,
            cheap=model,
            exact=exact,
            accuracy=Surrogate(),
            references=REFERENCES,
        )
        family = ScalingSearch(settings, settings.sources).run()
        # They decide nothing; what they are off is shown.
        sums = parts.many([one.chosen.variant for one in family.outcomes])
    print(lacs_text.text(family))
    found = with_shares(family.as_json())
    for outcome, of_parts in zip(found["outcomes"], sums, strict=True):
        outcome["chosen"]["parts_ms"] = of_parts.ms
    return found | {
        "tile_model": {"networks": len(model.rows), "leave_one_out": model.error}
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.tpu.scaling", __doc__)
    parser.add_argument(
        "--topologies",
        type=cli.names,
        default=["v5e", "v3"],
        help="one device of each is used; default: v5e,v3",
    )
    return parser


@cli.command(_parser)
def main(options: argparse.Namespace) -> Status:
    """Run the command line."""
    extras.require("scipy", task="fitting the surrogate")
    from tpu_compiler import environment

    hardware = machine.describe()  # before this benchmark is part of the load
    families = {}
    for topology in options.topologies:
        say(f"scaling for {topology}")
        families[topology] = _search(topology)
    report = {
        "benchmark": "tpu.scaling",
        "families": families,
        "settings": {"batch": 64, "dtype": "bfloat16", "devices": 1, "base": BASE},
        "conditions": _CONDITIONS,
        "machine": hardware,
        "versions": environment().versions,
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, options.output)
    outcomes = [one for family in families.values() for one in family["outcomes"]]
    return Status.OK if all(one["reached"] for one in outcomes) else Status.NO


if __name__ == "__main__":
    sys.exit(main())
