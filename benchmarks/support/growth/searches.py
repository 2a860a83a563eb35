"""A search's trials: what a worker asks, what store and folder hold, the page."""

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.support.growth.case import Case, Handle
from search import spaces
from search.engine import progress, result_files
from search.results import FirstOf, Result

TRIALS = (100, 1_000, 10_000, 100_000)
STORED = (100, 1_000, 10_000)
ROWS = (30, 100, 300, 1_000)
_MORE = 100  # trials, behind those that there are
_MACHINE = "made-up"


@functools.cache
def _encoded() -> list[str]:
    """Return some networks: to draw 100,000 would take longer than what is measured."""
    space, random_ = spaces.paper(), random.Random(0)
    return [space.encode(space.sample(random_)) for _ in range(100)]


def _results(trials: int) -> list[Result]:
    """Return results of a search, each of a network that counts as another one."""
    random_, found = random.Random(0), []
    for number in range(trials):
        top1, ms = random_.gauss(75, 2), random_.gauss(40, 9)
        found.append(
            Result(
                number=number,
                network=_encoded()[number % 100],
                digest=f"{number:016x}",
                value=top1,
                top1=(top1,),
                ms=ms,
                sources=("planted", "planted"),
                seconds=1.0,
                worker=_MACHINE,
            )
        )
    return found


def _folder(trials: int, folder: Path) -> list[Result]:
    """Write the folder of a search as a worker and its master leave it."""
    found = _results(trials)
    place = folder / result_files.FOLDER
    place.mkdir()
    lines = b"".join(map(result_files.as_line, found))
    (place / f"{_MACHINE}.jsonl").write_bytes(lines)
    return found


def _asked(trials: int, folder: Path, *, sampler: Callable[..., Any]) -> Handle:
    """Return what asks for 100 networks more."""
    del folder
    space, asked, history = spaces.paper(), sampler(), _results(trials)
    asked.ask(space, FirstOf(history, trials), trials)
    more = [{"number": trials + number, "worker": ""} for number in range(_MORE)]

    def handle() -> None:
        for one in more:
            network = asked.ask(space, FirstOf(history, one["number"]), one["number"])
            history.append(
                Result(
                    **one,
                    network=space.encode(network),
                    digest=space.digest(network),
                    value=75.0,
                    top1=(75.0,),
                    ms=40.0,
                )
            )

    return handle


def _worked(trials: int, folder: Path) -> Handle:
    """Return what a worker does for 100 trials more, but for their evaluation."""
    from search.block_search import BlockSearch
    from search.engine.folder_store import FolderStore
    from search.engine.study import Study
    from search.samplers import AgeingEvolution

    _folder(trials, folder)
    settings = BlockSearch(
        space=spaces.paper(),
        sampler=AgeingEvolution(),
        objective=lambda top1, ms: top1,
        latency=lambda variant: None,  # pyright: ignore[reportArgumentType]  # not asked
        accuracy=lambda variant, rung: None,  # pyright: ignore[reportArgumentType]
        evaluations=trials + 10 * _MORE,
    )
    log = result_files.ResultLog(folder, "made-up-2")
    study = Study(settings, FolderStore(folder), log, "made-up-2")

    def work(more: int) -> None:
        for _ in range(more):
            task = study.ask()
            assert task is not None
            result = Result(
                number=task.lease.number,
                network=task.lease.network,
                digest=task.digest,
                value=75.0,
                top1=(75.0,),
                ms=40.0,
            )
            study.tell(task.lease, result)

    work(1)  # sees all that there are
    return lambda: work(_MORE)


def _journal(trials: int, folder: Path) -> None:
    """Write Optuna's journal as so many finished trials leave it."""
    from search.engine import engine_optuna

    first, *others = _results(trials)
    store = engine_optuna.journal_store(folder)
    store.finish(first)
    path = folder / engine_optuna.JOURNAL
    *_, line = path.read_text().splitlines()
    made = json.loads(line)
    with path.open("a") as file:
        for result in others:
            text = json.dumps(result.as_json())
            made["user_attrs"] |= {"number": result.number, "result": text}
            file.write(json.dumps(made) + "\n")


def _replayed(trials: int, folder: Path) -> Handle:
    """Return what opens a journal and looks at it."""
    from search.engine import engine_optuna

    _journal(trials, folder)
    return lambda: engine_optuna.journal_store(folder).look() and None


def _stored(trials: int, folder: Path) -> Handle:
    """Return what takes 100 trials more from a journal, and gives their results."""
    from search.engine import engine_optuna

    _journal(trials, folder)
    store = engine_optuna.journal_store(folder)
    store.look()
    more = _results(trials + _MORE)[trials:]

    def handle() -> None:
        for result in more:
            lease = store.claim(result.number, result.network, "made-up")
            store.finish(result, lease)

    return handle


def _merged(trials: int, folder: Path) -> Handle:
    """Return what a master does that starts: it reads, sums up and writes all."""
    _folder(trials, folder)

    def handle() -> int:
        found = result_files.read(folder)
        result_files.write_merged(folder, found)
        progress.line(found, None)
        progress.table(found)
        return (folder / result_files.MERGED).stat().st_size

    return handle


def _reported(trials: int, folder: Path) -> Handle:
    """Return what makes the page of a search's report."""
    from search import report

    result_files.write_merged(folder, _folder(trials, folder))
    return lambda: report.write(str(folder), None).stat().st_size


def _fitted(rows: int, folder: Path) -> Handle:
    """Return what fits the surrogate's forms to as many rows, four times each."""
    del folder
    from search.accuracies import error_forms, published
    from search.accuracies.prediction import Table

    known = published.fitted(published.read(), recalled=False)
    every = [known[number % len(known)] for number in range(rows)]
    family = known[0].family

    def handle() -> None:
        table = Table(every)
        for weights in table.draws(4, 0, keep=family):
            for form in error_forms.SATURATING:
                table.fit(form, weights)

    return handle


def cases() -> list[Case]:
    """Return what grows with the trials of a search."""
    from search import samplers

    of_trials = functools.partial(Case, axis="trials")
    return [
        of_trials(
            name="a worker's trials, evaluation apart, in a folder",
            sizes=TRIALS,
            make=_worked,
            times="each",
        ),
        of_trials(
            name="trials of Optuna's journal",
            sizes=STORED,
            make=_stored,
            times="each",
        ),
        *(
            of_trials(
                name=f"networks of {sampler.__name__}",
                sizes=TRIALS,
                make=functools.partial(_asked, sampler=sampler),
                times="each",
            )
            for sampler in (samplers.AgeingEvolution, samplers.Pareto)
        ),
        of_trials(name="Optuna's journal is replayed", sizes=STORED, make=_replayed),
        of_trials(
            name="results are read, told and merged",
            sizes=TRIALS,
            make=_merged,
            work="bytes written",
        ),
        of_trials(
            name="the report's page",
            sizes=TRIALS,
            make=_reported,
            work="bytes written",
        ),
        Case(name="the surrogate is fitted", axis="rows", sizes=ROWS, make=_fitted),
    ]
