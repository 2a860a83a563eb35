"""The stages of a neural architecture search, each done once, in this order.

    table      compiles the blocks of the space, if its times are sums of such
    supernet   trains all networks at once, and a controller that chooses among them
    found      the network that the controller prefers, and its weights out of the
               supernet; scores of random ones beside it
    random     random networks, each trained a little, for as long as the supernet was
    trust      does the supernet rank these as their own trainings do?
    final      the found network, random search's best and the recipe's own, trained by
               the recipe with several seeds
    latency    the found network by other sources
    export     the best run of the found network, with batch norm's statistics counted
               anew, unless its averages are better

With --method=evolution the first two are one search over short trainings, and there is
nothing to be trusted. What a stage has left on the disk, a later command takes.
"""

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any

from common import console
from common.errors import UserError
from search import latency_sources
from search.nas_search import Nas
from search.stages import (
    children,
    finals,
    finding,
    rivals,
    space_table,
    stage_text,
)
from search.stages.commands import Commands
from search.stages.folder import (
    EVOLUTION,
    EXPORT,
    FINAL,
    FOUND,
    RANDOM,
    SUPERNET,
    TRUST,
    NasFolder,
)
from search.stages.plan import LATENCY, TABLE, Plan
from search.stages.work import Work

_STAGES: Mapping[str, Callable[[Work], dict[str, Any]]] = {
    TABLE: finding.make_table,
    SUPERNET: finding.train_supernet,
    EVOLUTION: finding.evolve,
    FOUND: finding.find,
    RANDOM: rivals.search_at_random,
    TRUST: rivals.compare_rankings,
    FINAL: finals.train_finalists,
    LATENCY: finals.ask_latencies,
    EXPORT: finals.export_best,
}


def run(
    settings: Nas,
    commands: Commands,
    folder: NasFolder,
    plan: Plan,
    stop_before: str | None = None,
) -> None:
    """Do all stages that are not done, and say of each what has come of it.

    Args:
      settings: of the search.
      commands: that the stages run.
      folder: of the search.
      plan: which stages there are.
      stop_before: the stage that is not done any more.

    Raises:
      UserError: something that a person has to mend.
      Restart: the same command goes on.
    """
    work, names = Work(settings, commands, folder, plan), plan.stages
    if stop_before is not None and stop_before not in names:
        raise UserError(
            f"--stop_before={stop_before}: the stages of this search are "
            f"{', '.join(names)}"
        )
    for number, name in enumerate(names, start=1):
        head = f"{number}/{len(names)} {name}"
        if name == stop_before:
            for line in _next(work, name):
                print(f"{head}: {console.escaped(line)}")
            return
        found = _known(work, name)
        if found is None:
            console.say(f"{head}: {stage_text.purpose(name, plan.method)}")
            began = time.monotonic()
            found = _STAGES[name](work)
            found |= {"wall_seconds": time.monotonic() - began}  # of this life
            folder.finish(name, found)
        if name == TABLE:  # from here on, times are its sums
            table = latency_sources.table(str(folder / space_table.FILE))
            work = dataclasses.replace(
                work, settings=dataclasses.replace(settings, latency=table)
            )
        for line in stage_text.lines(name, found):
            print(f"{head}: {console.escaped(line)}")


def _next(work: Work, name: str) -> list[str]:
    """Return what to say of a stage that is left to another command."""
    if name != SUPERNET:
        return ["not begun: --stop_before"]
    work.write_gin(SUPERNET, work.commands.supernet_gin())
    return [
        f"{what}: {shlex.join(children.command_line(arguments))}"
        for what, arguments in (
            (
                "does its step fit, name your slice",
                work.commands.preflight_supernet(),
            ),
            ("train it", work.commands.train_supernet()),
        )
    ]


def _known(work: Work, name: str) -> dict[str, Any] | None:
    """Return what came of a stage; None where there is more to do than then."""
    found = work.folder.stage(name)
    if found is None or found.get("not_done"):
        return None
    if name == FINAL:
        done = found["seeds"] >= work.plan.seeds
        return (
            found
            if done and set(finals.finalists(work)) <= set(found["means"])
            else None
        )
    if name == LATENCY:
        known = {row["network"] for row in found["rows"]}
        # Without a compiler, say, there was no answer: there may be one now.
        has_all = all(row["ms"] is not None for row in found["rows"])
        is_there = finals.best_at_random(work) is None or RANDOM in known
        return found if has_all and is_there else None
    if name == EXPORT:
        best = finals.best_run(work)
        return found if best and best["seed"] == found["seed"] else None
    return found
