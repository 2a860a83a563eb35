"""The stages that say what the found network is worth: trained, timed, exported."""

import json
from pathlib import Path
from typing import Any

from common import console
from common.errors import UserError
from models.variants import Variant
from search.networks.variant_json import restore
from search.stages import children, latency_answers, run_numbers, sums
from search.stages.folder import EXPORT, FINAL, FOUND, RANDOM
from search.stages.work import Work

BASELINE = "baseline"
_SCORE = "ema_top1"


def train_finalists(work: Work) -> dict[str, Any]:
    """Train the finalists with every seed, one seed of all after the other."""
    rows = []
    for seed in range(work.plan.seeds):
        rows += [_trained(work, name, seed) for name in finalists(work)]
    return sums.finals(rows, work.plan.seeds)


def finalists(work: Work) -> list[str]:
    """Return the networks that are trained by the whole recipe."""
    best = best_at_random(work)
    # Both searches may have found the same one.
    own = best is not None and best["digest"] != work.result(FOUND)["digest"]
    return [FOUND, *[RANDOM] * own, BASELINE]


def best_at_random(work: Work) -> dict[str, Any] | None:
    """Return the result of random search's best; None where there is none."""
    found = work.folder.stage(RANDOM) if RANDOM in work.plan.stages else None
    return found and found["best"]


def _trained(work: Work, name: str, seed: int) -> dict[str, Any]:
    """Return what came of a final training."""
    stage = f"{FINAL}-{name}-seed-{seed}"
    if (known := work.folder.stage(stage)) is not None:
        return known
    model_dir = work.folder.run(name, seed)
    console.say(f"  training {name}, seed {seed}, in {model_dir}")
    children.wait_until_free(model_dir)
    arguments = work.commands.train(name, seed, model_dir)
    children.run(
        arguments,
        work.folder.log(stage),
        what=f"the training of {name} with seed {seed}",
        describe=lambda: run_numbers.line(model_dir, None),
    )
    summary = run_numbers.summary(model_dir)
    if not isinstance(score := summary.get(_SCORE), int | float):
        raise UserError(
            f"{model_dir / run_numbers.SUMMARY} has no {_SCORE}, though the "
            "training has ended: remove the folder, and the same command trains "
            "this network again"
        )
    found = {
        "name": name,
        "seed": seed,
        "top1": 100 * score,
        **{k: summary.get(k) for k in ("variant", "steps", "parameters")},
        "images": summary.get("eval_images"),
        "model_dir": str(model_dir),
        "command": children.command_line(arguments),
    }
    return work.folder.finish(stage, found)


def ask_latencies(work: Work) -> dict[str, Any]:
    """Ask every source for the found network, and for what it is up against."""
    settings = work.settings
    sources = {
        "searched by": settings.latency,
        "parts": settings.parts,
        "exact": settings.exact,
    }
    return latency_answers.ask(sources, _timed(work), work.folder)


def _timed(work: Work) -> dict[str, Variant]:
    """Return the networks whose time is asked for, by name."""
    encodings = {FOUND: work.result(FOUND)["network"]}
    if (best := best_at_random(work)) is not None:
        encodings[RANDOM] = best["network"]
    found = {n: work.space.build(work.space.decode(e)) for n, e in encodings.items()}
    own = _baseline(work)
    return found if own is None else {**found, BASELINE: own}


def _baseline(work: Work) -> Variant | None:
    """Return the recipe's own network; None where nobody can tell which it is."""
    path = work.folder / "networks" / f"{BASELINE}.json"
    if (found := work.folder.read(path)) is None:
        try:
            children.run(
                work.commands.recipe(path),
                work.folder.log(BASELINE),
                what="what the recipe trains",
            )
        except UserError as error:
            console.warn(str(error))
            return None
        found = work.folder.read(path)
    return None if found is None else restore(found["name"], found["network"])


def export_best(work: Work) -> dict[str, Any]:
    """Make a SavedModel of the found network's best run.

    Its statistics of batch norm are counted anew. Where that costs top-1 it is made
    once more, of the run's averages: what is handed out is never the worse one.
    """
    best = best_run(work)
    if best is None:
        return {"not_done": "the found network was not trained: --no_final"}
    found = _exported(work, best, best["images"])
    statistics = found["report"].get("statistics")
    if statistics is None:
        return found
    if is_worse := sums.falls(statistics):
        found = _exported(work, best, None)
    return {**found, "statistics": {**statistics, "exported": not is_worse}}


def _exported(work: Work, best: dict[str, Any], images: int | None) -> dict[str, Any]:
    """Make a SavedModel of a run; see `Commands.export` for the images."""
    arguments = work.commands.export(Path(best["model_dir"]), images)
    printed = children.run(
        arguments, work.folder.log(EXPORT), what="the export of the found network"
    )
    return {
        "seed": best["seed"],
        "top1": best["top1"],
        "export_dir": str(work.folder / EXPORT),
        "report": json.loads(printed) if printed.startswith("{") else {},
        "command": children.command_line(arguments),
    }


def best_run(work: Work) -> dict[str, Any] | None:
    """Return the best final training of the found network; None without any."""
    final = work.folder.stage(FINAL)
    own = [row for row in (final or {"rows": []})["rows"] if row["name"] == FOUND]
    return max(own, key=lambda row: (row["top1"], -row["seed"]), default=None)
