r"""Search a space of networks by one that contains them all, and see what it is worth.

    python -m search.nas --gin_file=gin_configs/search/nas_digits.gin \
      --search_dir=runs/nas

Trains a supernet and the controller that chooses in it; what is found becomes a gin
file and a row of a table, and is trained from scratch with several seeds, beside the
best of a random search that had as much training, and the recipe's own network. The
search says how far the supernet's ranking is to be trusted, how large the noise is, and
what other sources say of the found network's time. --method=evolution mutates short
trainings instead; all else is the same.

Goes on where it was stopped or killed: run the same command again. --status says how
far a search is, from its files alone. report.html is made at the end, and by
python -m search.report at any time.

Exit status: 0 done, 2 a mistake, 75 run it again, 130 Ctrl-C.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from common import cli, console
from common.errors import Status


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.nas", __doc__)
    cli.add_gin_arguments(parser)
    add = parser.add_argument
    add("--search_dir", type=cli.path, required=True, help="folder of this search")
    add(
        "--method",
        choices=("supernet", "evolution"),
        help="one network that contains all, or short trainings; overrides Nas.method",
    )
    add(
        "--seeds",
        type=cli.positive,
        help="final trainings of each network; overrides Nas.seeds",
    )
    for name, what in {
        "random": "search at random for as long",
        "trust": "compare the supernet's ranking with that of trainings",
        "final": "train anything by the whole recipe",
        "latency": "ask other sources for the found network's time",
        "export": "make a SavedModel",
    }.items():
        add(f"--no_{name}", action="store_true", help=f"do not {what}")
    add(
        "--stop_before",
        metavar="STAGE",
        choices=("supernet", "evolution", "found", "random", "trust", "final"),
        help="end when all in front of it is done; of the supernet's training, say how "
        "it is given, as to a slice",
    )
    add("--noreport", action="store_true", help="make no report.html at the end")
    add("--status", action="store_true", help="only say how far the search is")
    return parser


@cli.command(
    _parser, interrupted="stopped; the same command goes on", outlives_pipes=True
)
def main(arguments: argparse.Namespace) -> Status:
    """Run the command."""
    folder = Path(arguments.search_dir)
    if arguments.status:
        return _status(folder)

    from search import config
    from search.engine import processes, search_folder
    from search.nas_search import Nas

    settings = config.read(Nas, arguments.gin_file, arguments.gin_param)
    text = config.text()
    names = ("space", "objective", "latency", "sampler")
    references = config.references(Nas, names)
    if arguments.method not in (None, settings.method):
        settings = dataclasses.replace(settings, method=arguments.method)
        text += f"nas_search.Nas.method = {arguments.method!r}\n"
    search = search_folder.identity(text, settings.space.fingerprint)
    command = ["python", "-m", "search.nas", *sys.argv[1:]]
    with processes.stopped_by_sigterm(), search_folder.held(folder):
        search_folder.enter(folder, search, "embedded", command)
        return _run(arguments, settings, text, references)


def _run(
    arguments: argparse.Namespace, settings: Any, text: str, references: dict[str, str]
) -> Status:
    """Do all stages, and make the page."""
    from search import report
    from search.stages import early, order, space_table
    from search.stages.commands import Commands
    from search.stages.folder import COMMAND, opened
    from search.stages.plan import SKIPPABLE, Plan

    folder = opened(Path(arguments.search_dir))
    flags = {name: getattr(arguments, f"no_{name}") for name in SKIPPABLE}
    skipped = {
        name: f"left out by --no_{name}" for name, is_set in flags.items() if is_set
    }
    with_table = space_table.is_sum(settings.latency)
    seeds = arguments.seeds or settings.seeds
    plan = Plan(settings.method, seeds, skipped, with_table)
    about = {
        **dataclasses.asdict(plan),
        "folder": str(folder.path),
        "stages": plan.stages,
        "choices": [
            {"name": choice.name, "values": list(map(str, choice.values))}
            for choice in settings.space.choices
        ],
    }
    folder.write(folder / COMMAND, json.dumps(about, indent=1) + "\n")
    commands = Commands(settings, text, references, folder)
    early.refuse(commands, plan.stages, arguments.stop_before)
    if with_table:
        commands = commands.with_latency(*space_table.gin(folder / space_table.FILE))
    order.run(settings, commands, folder, plan, arguments.stop_before)
    for name, why in skipped.items():
        print(f"not done: {name} ({why})")
    if not arguments.noreport:
        report.write_or_warn(folder.path)
    return Status.OK


def _status(folder: Path) -> Status:
    """Say how far a search is, from plain files."""
    from search.engine import search_folder
    from search.stages import status
    from search.stages.folder import NasFolder

    found = search_folder.read(folder)
    for line in status.lines(NasFolder(folder)):
        print(console.escaped(line))
    print(f"goes on with: {found['command']}")
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
