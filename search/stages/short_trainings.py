"""Searches over short trainings of single networks, by `search.blocks`."""

import dataclasses
from typing import Any

from search.engine import progress, result_files
from search.stages import children, run_numbers
from search.stages.run_numbers import Cost
from search.stages.work import Work


def search(work: Work, name: str, evaluations: int) -> None:
    """Let `search.blocks` evaluate so many networks in a folder below."""
    folder = work.folder / name
    if len(result_files.read(folder)) >= evaluations:
        return
    work.write_gin(name, work.commands.search_gin(name))
    children.wait_until_free(folder)
    children.run(
        work.commands.search(name, evaluations),
        work.folder.log(name),
        what=f"the search {name}",
        describe=lambda: progress.line(result_files.read(folder), evaluations),
        may_say_no=True,  # where no network has a value, which `searched` says
    )


def searched(work: Work, name: str) -> dict[str, Any]:
    """Return what a search over short trainings has found."""
    results = result_files.read(work.folder / name)
    best = next(iter(progress.best(results, 1)), None)
    return {
        "evaluations": len(results),
        "failed": sum(result.value is None for result in results),
        "best": best and best.as_json(),
        "reason": next(iter(progress.failures(results)), ""),
        **dataclasses.asdict(cost(work, name)),
    }


def cost(work: Work, name: str) -> Cost:
    """Return what the trainings of a search have cost."""
    trials = work.folder / name / "trials"
    return run_numbers.total(sorted(trials.glob("*/run")))
