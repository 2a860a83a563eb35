"""The stages with random networks: what the search and its supernet are up against."""

import dataclasses
from typing import Any

from search.engine import result_files
from search.stages import finding, run_numbers, short_trainings, sums, trust
from search.stages.folder import EVOLUTION, RANDOM, SUPERNET
from search.stages.run_numbers import Cost
from search.stages.work import Work

AFFORDABLE = "affordable"


def search_at_random(work: Work) -> dict[str, Any]:
    """Search at random, by as much training as the search has had."""
    if work.plan.method == EVOLUTION:
        spent = short_trainings.cost(work, EVOLUTION)
        evaluations = work.settings.evaluations
    else:
        spent = run_numbers.cost(work.folder / SUPERNET)
        evaluations = _affordable(work, spent)
    short_trainings.search(work, RANDOM, evaluations)
    found = short_trainings.searched(work, RANDOM)
    if found["best"] is not None:
        network = work.space.decode(found["best"]["network"])
        found |= {"named": finding.write_network(work, RANDOM, network)}
    return {**found, "budget": dataclasses.asdict(spent)}


def _affordable(work: Work, budget: Cost) -> int:
    """Return how many random networks a budget pays, by what the first ones cost.

    It is written down: later, there are more trainings than these.
    """
    known = work.folder.stage(AFFORDABLE)
    if known is None:
        first = max(work.settings.trust_networks, sum(work.settings.rungs))
        short_trainings.search(work, RANDOM, first)
        found = sums.affordable(budget, short_trainings.cost(work, RANDOM), first)
        known = work.folder.finish(AFFORDABLE, {"evaluations": found})
    return known["evaluations"]


def compare_rankings(work: Work) -> dict[str, Any]:
    """Compare two rankings of the same random networks."""
    if work.plan.method == EVOLUTION:
        reason = "evolution trains each network by itself: no supernet ranks any"
        return {"not_done": reason}
    # The stage that does more of them may be left out.
    short_trainings.search(work, RANDOM, work.settings.trust_networks)
    scores = finding.supernet_scores(work)["networks"]
    results = sums.first_scores(result_files.read(work.folder / RANDOM))
    rows = [
        {
            "network": network,
            "supernet": top1,
            "alone": results[network].top1[0],
            "ms": results[network].ms,
        }
        for network, top1 in scores.items()
        if network in results
    ]
    found = trust.compare(
        [row["supernet"] for row in rows], [row["alone"] for row in rows]
    )
    return {**found.as_json(), "rows": rows, "missing": len(scores) - len(rows)}
