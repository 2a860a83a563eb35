"""Search a space of blocks for networks that are good and fast.

    python -m search.blocks --gin_file=my_search.gin --search_dir=runs/my_search

Goes on where it was stopped or killed: run the same command again. On many machines:
the same command on each, with --storage=postgresql://user@host/database (a password
comes from PGPASSWORD or ~/.pgpass), or with --storage=folder and a --search_dir that
all of them see. --status says how far a search is, from its files alone:

    python -m search.blocks --search_dir=runs/my_search --status

With --baseline the same number of networks is drawn at random, too, and evaluated in
the folder's random/; the report compares the two. report.html is made at the end, and
by python -m search.report at any time.

Exit status: 0 done, 1 no network could be evaluated, 2 a mistake, 75 run it again.
"""

import argparse
import contextlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import cli, console
from common.errors import Status, UserError

_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0
_MERGE_SECONDS = 5.0
_SHARE = 0.05  # of its time, at most, that the master takes for one of them
RANDOM = "random"  # folder of the baseline, below the search's
_HOPELESS = 20  # evaluations that have all failed, before the search stops


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.blocks", __doc__)
    cli.add_gin_arguments(parser)
    parser.add_argument(
        "--search_dir", type=cli.path, required=True, help="folder of this search"
    )
    parser.add_argument(
        "--storage",
        default="embedded",
        help="what workers share: embedded (default: this machine's alone), folder "
        "(--search_dir, seen by all machines), or postgresql://user@host/database",
    )
    parser.add_argument(
        "--workers", type=cli.positive, default=2, help="on this machine; default: 2"
    )
    parser.add_argument(
        "--evaluations", type=cli.positive, help="in all, instead of the config's"
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="search by random choice, too, with as many evaluations, to compare with",
    )
    parser.add_argument(
        "--noreport", action="store_true", help="make no report.html at the end"
    )
    parser.add_argument(
        "--status", action="store_true", help="only say how far the search is"
    )
    return parser


@cli.command(
    _parser, interrupted="stopped; the same command goes on", outlives_pipes=True
)
def main(arguments: argparse.Namespace) -> Status | None:
    """Run the command."""
    folder = Path(arguments.search_dir)
    if arguments.status:
        return _status(folder)

    from search import config, report
    from search.block_search import BlockSearch
    from search.engine import processes, storages

    storages.check(arguments.storage)
    settings = config.read(BlockSearch, arguments.gin_file, arguments.gin_param)
    if arguments.workers > settings.lag:
        raise UserError(
            f"--workers={arguments.workers}: more than BlockSearch.lag = "
            f"{settings.lag} cannot be at work at once; set a larger lag or fewer "
            "workers"
        )
    text = config.text()
    with processes.stopped_by_sigterm():
        results = _search(arguments, settings, text, _flags(arguments))
        if arguments.baseline:
            _search_at_random(arguments, text)
    status = _report(results, arguments, settings)
    if not arguments.noreport:
        report.write_or_warn(folder)
    return status


def _search_at_random(arguments: argparse.Namespace, text: str) -> None:
    """Evaluate as many networks that are drawn at random, in a folder below."""
    from search import config
    from search.block_search import BlockSearch
    from search.engine import progress

    first, _, rest = text.partition("\n")
    imported = "from search import samplers"
    text = "\n".join(
        [
            first,  # of dynamic registration
            *([] if imported in rest.splitlines() else [imported]),
            rest,
            "block_search.BlockSearch.sampler = @baseline/samplers.RandomSearch()",
        ]
    )
    settings = config.read_text(BlockSearch, text)
    folder = str(Path(arguments.search_dir) / RANDOM)
    console.say(f"the same number of networks, drawn at random: {folder}")
    below = argparse.Namespace(**{**vars(arguments), "search_dir": folder})
    results = _search(below, settings, config.text(), _flags(arguments))
    print(f"at random: {progress.line(results, _evaluations(arguments, settings))}")


def _status(folder: Path) -> Status:
    """Say how far a search is, from plain files."""
    from search.engine import progress, result_files, search_folder

    found = search_folder.read(folder)
    results = result_files.read(folder)
    print(progress.line(results, None))
    for line in progress.table(results):
        print(line)
    print(f"goes on with: {found['command']}")
    return Status.OK


def _search(
    arguments: argparse.Namespace, settings: Any, text: str, flags: list[str]
) -> list[Any]:
    """Enter the folder, and return all results when nothing is left to do.

    The flags are those of the command that goes on with it: a baseline is made by that
    of the search.
    """
    from search.engine import search_folder, storages

    folder = Path(arguments.search_dir)
    search = search_folder.identity(text, settings.space.fingerprint)
    command = ["python", "-m", "search.blocks", *flags]
    # The masters of other machines may work in the folder of another store, too.
    is_alone = arguments.storage == storages.EMBEDDED
    with search_folder.held(folder) if is_alone else contextlib.nullcontext():
        search_folder.enter(folder, search, arguments.storage, command)
        return _run(arguments, settings, text, search.study)


def _run(
    arguments: argparse.Namespace, settings: Any, text: str, study: str
) -> list[Any]:
    """Let workers evaluate until nothing is left; return all results."""
    from search.engine import storages
    from search.engine.crew import Crew
    from search.engine.master import Master
    from search.engine.worker import Order

    folder, storage = Path(arguments.search_dir), arguments.storage
    evaluations = _evaluations(arguments, settings)
    if storage == storages.EMBEDDED:
        _mend(folder)
    store = storages.open_store(storage, folder, study)
    with contextlib.closing(store):
        master = Master(folder, store, settings.lease_seconds)
        master.tell_again()
        order = Order(
            folder=str(folder.resolve()),
            storage=storage,
            study=study,
            config=text,
            evaluations=evaluations,
        )
        if not master.has_all(evaluations):
            crew = Crew(order, arguments.workers)
            try:
                _watch(master, crew, evaluations)
            finally:
                crew.stop()
                master.merge()
                console.end_live_line()
        master.merge()
        return master.results


class _NowAndThen:
    """What is done again and again: every so many seconds, or less often if it is slow.

    All results are gone through each time, and there are more and more of them.
    """

    def __init__(self, act: Callable[[], None], seconds: float):
        self._act, self._seconds = act, seconds
        self._due = time.monotonic() + seconds

    def if_due(self) -> None:
        """Do it if it is time."""
        began = time.monotonic()
        if began <= self._due:
            return
        self._act()
        now = time.monotonic()
        self._due = now + max(self._seconds, (now - began) / _SHARE)


def _watch(master: Any, crew: Any, evaluations: int) -> None:
    """Look after workers, and say a line now and then, until all have ended."""
    line = _NowAndThen(
        lambda: console.say(master.line(evaluations), stays=False), _LINE_SECONDS
    )
    merge = _NowAndThen(master.merge, _MERGE_SECONDS)
    known = -1
    while True:
        is_at_work = crew.check(master.count > known)
        known = master.count
        master.look()
        if why := master.why_hopeless(_HOPELESS):
            raise UserError(
                f"the first {_HOPELESS} evaluations have all failed: {why}. Mend the "
                "cause, and name another folder"
            )
        line.if_due()
        merge.if_due()
        if not is_at_work:
            return
        time.sleep(_POLL_SECONDS)


def _report(results: list[Any], arguments: argparse.Namespace, settings: Any) -> Status:
    """Print what has come out; return the exit status."""
    from search.engine import progress

    evaluations = _evaluations(arguments, settings)
    print(progress.line(results, evaluations))
    is_exhausted = len(results) < evaluations
    if is_exhausted:
        print("the space has no other networks")
    for line in progress.table(results):
        print(line)
    for best in progress.best(results, 1):
        print(_exchange_rate(settings.objective, best))
    if not is_exhausted:
        more = _flags(arguments, evaluations=2 * len(results))
        print(f"to go on: python -m search.blocks {shlex.join(more)}")
    return Status.OK if progress.best(results, 1) else Status.NO


def _exchange_rate(objective: Any, best: Any) -> str:
    """Return what the objective trades, at the best network."""
    if not hasattr(objective, "exchange_rate"):
        return "what the objective trades is not known: it is a function of one's own"
    rate = objective.exchange_rate(statistics.median(best.top1), best.ms)
    return f"{objective}: {rate}"


def _evaluations(arguments: argparse.Namespace, settings: Any) -> int:
    return arguments.evaluations or settings.evaluations


def _flags(arguments: argparse.Namespace, **changed: Any) -> list[str]:
    """Return the command's flags, each with its value in one word."""
    given = {**vars(arguments), **changed}
    flags = []
    for name, value in given.items():
        if value in (None, False) or _parser().get_default(name) == value:
            continue
        values = value if isinstance(value, list) else [value]
        flags += [f"--{name}" if one is True else f"--{name}={one}" for one in values]
    return flags


def _mend(folder: Path) -> None:
    from search.engine.engine_optuna import mend_journal

    if away := mend_journal(folder):
        console.warn(f"the journal was damaged and is now {away}; a new one is made")


if __name__ == "__main__":
    sys.exit(main())
