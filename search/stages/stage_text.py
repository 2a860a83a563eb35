"""What a person reads of the stages of a search. Imports no framework."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from search.stages import seeds

_WORDS = {
    "found": "the found network",
    "random": "random search's best",
    "baseline": "the recipe's own",
}
_PURPOSE = {
    "table": "compiling the blocks of the space",
    "supernet": "training one network that contains all, and its controller",
    "evolution": "short trainings, of which the best are mutated",
    "found": "what the search has found",
    "random": "random networks, by as much training",
    "trust": "does the supernet rank networks as trainings do?",
    "final": "training by the whole recipe, seed by seed",
    "latency": "asking every source for its time",
    "export": "making a SavedModel",
}

Found = Mapping[str, Any]


def purpose(stage: str, method: str) -> str:
    """Return what a stage is about to do."""
    if stage == "trust" and method == "evolution":
        return "nothing to compare"
    return _PURPOSE[stage]


def who(name: str) -> str:
    """Return what a finalist is called."""
    return _WORDS.get(name, name)


def lines(stage: str, found: Found) -> list[str]:
    """Return what came of a stage, a fact a line."""
    if reason := found.get("not_done"):
        return [f"not done: {reason}"]
    seconds = found.get("wall_seconds")  # not in a file of an older search
    took = [] if seconds is None else [f"{_duration(seconds)} in its last life"]
    return [*_LINES[stage](found), *took]


def _table(found: Found) -> list[str]:
    failed = found["failed"]
    more = f"; {failed:,} do not compile: {found['reason']}" if failed else ""
    return [f"{found['blocks']:,} blocks{more}"]


def _supernet(found: Found) -> list[str]:
    return [f"{_cost(found)}; {found['steps'] or 0:,} steps"]


def _searched(found: Found) -> list[str]:
    text = f"{found['evaluations']:,} evaluated, {found['failed']:,} failed; "
    best = found["best"]
    if best is None:
        return [
            f"{text}{_cost(found)}",
            f"no network has a value: {found.get('reason', '')}",
        ]
    return [
        f"{text}{_cost(found)}",
        f"best: {best['network']}: {best['top1'][0]:.2f} % ({best['sources'][0]}), "
        f"{_ms(best['ms'])}, worth {best['value']:.4f}",
    ]


def _random(found: Found) -> list[str]:
    budget = f"the search itself: {_cost(found['budget'])}"
    first, *rest = _searched(found)
    return [f"{first}; {budget}", *rest]


def _found(found: Found) -> list[str]:
    target = found.get("target_ms")
    aim = f", target {_ms(target)}" if target else ""
    scored = found.get("supernet_top1")
    inside = f", top-1 in the supernet {scored:.2f} %" if scored is not None else ""
    return [
        f"{found['network']}",
        f"{_ms(found['ms'])} ({found['source']}{aim}){inside}",
        f"gin file: {found['gin_file']}; row of a table: {found['row_file']}",
        f"train it: {shlex.join(found['train'])}",
        *_alone(found),
    ]


def _alone(found: Found) -> list[str]:
    """Return what is known of the weights that the supernet has for a network."""
    alone = found.get("alone")
    if alone is None:
        return []
    return [
        f"its weights out of the supernet: {found['weights']}; alone, with batch "
        f"norm's statistics of {alone['statistics_images']:,} training images, "
        f"{alone['top1']:.2f} % on {alone['images']:,}",
        f"begin with them: --gin_param={shlex.quote(found['fine_tune'])}",
    ]


def _trust(found: Found) -> list[str]:
    missing = found["missing"]
    failed = f"; {missing} more have failed" if missing else ""
    return [f"{found['verdict']}{failed}"]


def _final(found: Found) -> list[str]:
    rows: dict[str, list[str]] = {}
    for row in found["rows"]:
        rows.setdefault(row["name"], []).append(f"{row['top1']:.2f}")
    said = [
        f"{who(name)}: {found['means'][name]:.2f} % ({', '.join(each)})"
        for name, each in rows.items()
    ]
    return [*said, *conclusions(found)]


def conclusions(found: Found) -> list[str]:
    """Return what the final trainings say of the found network."""
    noise = found["deviation"]
    if noise is None:
        return ["one seed each: nobody knows how large the noise is"]
    said = [
        f"a training is {noise:.2f} points off its network's mean (one standard "
        f"deviation); less than {seeds.DEVIATIONS * noise:.2f} is no difference"
    ]
    for name, one in found["against"].items():
        if one is None:
            continue
        verdict, points = one["verdict"], one["difference"]
        said.append(f"against {who(name)}: {points:+.2f} points: {verdict.upper()}")
    return said


def _latency(found: Found) -> list[str]:
    return [
        f"{who(row['network'])}, {row['role']}: "
        + (
            f"{_ms(row['ms'])} ({row['source']})"
            if row["ms"] is not None
            else f"no answer: {row['reason']}"
        )
        for row in found["rows"]
    ]


def _export(found: Found) -> list[str]:
    return [
        f"{found['export_dir']}, of seed {found['seed']} ({found['top1']:.2f} %, the "
        "best of several: expect the mean)",
        *_statistics(found.get("statistics")),
    ]


def _statistics(found: Found | None) -> list[str]:
    """Return what new statistics of batch norm have changed, and what was exported."""
    if found is None:
        return []
    before, after = found["top1_before"], found["top1_after"]
    said = f"batch norm's statistics anew, of {found['images']:,} training images"
    if before is not None and after is not None:
        said += (
            f": top-1 {100 * before:.2f} % before, {100 * after:.2f} % after, on "
            f"{found['scored_images']:,} images"
        )
    if not found["exported"]:
        said += (
            ": THEY ARE WORSE, so that those which the run has averaged are exported"
        )
    return [said]


def _cost(found: Found) -> str:
    spent = _duration(found["seconds"])
    return f"{spent} of training steps on {found['images']:,} images"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} s"


def _ms(ms: float | None) -> str:
    return "no time" if ms is None else f"{ms:.4g} ms"


_LINES: dict[str, Callable[[Found], list[str]]] = {
    "table": _table,
    "supernet": _supernet,
    "evolution": _searched,
    "found": _found,
    "random": _random,
    "trust": _trust,
    "final": _final,
    "latency": _latency,
    "export": _export,
}
