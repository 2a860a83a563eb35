r"""Scale a network to latencies: a family for an accelerator.

    python -m search.lacs --gin_file=gin_configs/search/lacs_v5e.gin \
      --search_dir=runs/lacs

Latency-aware compound scaling: depth, width and resolution are chosen for the best
predicted top-1 at each target, and what is chosen is compiled whole. The folder then
holds family.json, a gin file for each network that trains as it is, the networks as
rows of a table, and report.html. The same command again goes on where it was stopped:
what was compiled is known.

The exit status is 0 when every network is within the tolerance of its target, 1 when
one is not, 2 when there is no answer.
"""

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli
from common.errors import Status, UserError


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("search.lacs", __doc__)
    cli.add_gin_arguments(parser)
    add = parser.add_argument
    add("--search_dir", type=cli.path, required=True, help="folder of this search")
    add(
        "--strategy",
        help="free, or the networks of efficientnet, x-tpu, x-gpu, fast, depth, width "
        "or resolution; overrides Scaling.strategy",
    )
    add("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


@cli.command(_parser, interrupted="stopped; the same command goes on")
def main(arguments: argparse.Namespace) -> Status:
    """Run the command line."""
    from search import config
    from search.engine import search_folder
    from search.scaling_search import Scaling

    settings = config.read(Scaling, arguments.gin_file, arguments.gin_param)
    text = config.text()
    if arguments.strategy not in (None, settings.strategy):
        settings = dataclasses.replace(settings, strategy=arguments.strategy)
        text += f"scaling_search.Scaling.strategy = {arguments.strategy!r}\n"
    folder = Path(arguments.search_dir)
    search = search_folder.identity(text, f"scaling of {settings.base}")
    command = ["python", "-m", "search.lacs", *sys.argv[1:]]
    with search_folder.held(folder):
        search_folder.enter(folder, search, "embedded", command)
        family = _search(settings, folder)
        print(_said(family, folder, as_json=arguments.json))
    reached = all(outcome.reached for outcome in family.outcomes)
    return Status.OK if reached else Status.NO


def _search(settings: Any, folder: Path) -> Any:
    """Return the family that the sources lead to, written into the folder."""
    from search import report
    from search.families import family_files
    from search.scaling import ScalingSearch

    with contextlib.ExitStack() as stack:
        sources = _sources(settings.sources, folder, stack)
        family = ScalingSearch(settings, sources).run()
        about = {name: _about(source) for name, source in sources.items()}
    family = dataclasses.replace(family, about={**family.about, "sources": about})
    try:
        family_files.write(folder, family)
        report.write(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or folder}: {error.strerror}; free some "
            "space; what was compiled is known when the command is given again"
        ) from error
    return family


def _sources(
    given: Mapping[str, Any], folder: Path, stack: contextlib.ExitStack
) -> dict[str, Any]:
    """Return the sources; those that take long keep their answers in the folder.

    The cheap one is asked for thousands of networks, each of which would be synced.
    """
    from search import accuracy_sources, latency_sources

    found = {}
    source: Any
    for name, source in given.items():
        if name in ("parts", "exact"):
            source = latency_sources.in_folder(source, str(folder))
        if name == "accuracy":
            source = accuracy_sources.in_folder(source, str(folder))
        if hasattr(source, "close"):
            stack.callback(source.close)
        found[name] = source
    return found


def _about(source: Any) -> dict[str, Any]:
    """Return what a report says of a source."""
    conditions = getattr(source, "conditions", None)
    return {
        "name": getattr(source, "name", type(source).__name__),
        "error": getattr(source, "error", None),
        "conditions": conditions and conditions.as_json(),
    }


def _said(family: Any, folder: Path, *, as_json: bool) -> str:
    """Return what a person, or a program, is told."""
    if as_json:
        return json.dumps(family.as_json())
    from search.families import lacs_text

    first = family.outcomes[0].chosen.variant.name
    train = [
        *("python", "-m", "train.main", "--gin_file=gin_configs/runs/imagenet_tpu.gin"),
        *(f"--gin_file={folder / first}.gin", f"--model_dir=runs/{first}"),
    ]
    return "\n".join(
        [
            lacs_text.text(family),
            "",
            f"report: {folder / 'report.html'}",
            f"train one: {shlex.join(train)}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
