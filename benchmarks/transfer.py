"""How well few drawings are learnt from trained weights, and without: a line of JSON.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps*.deb STAMPS
    npm pack emoji-datasource-twitter@16.0.0 && tar -xzf emoji-datasource-twitter-*.tgz
    python -m benchmarks.transfer --stamps=STAMPS --emoji=package

Each set is cut to a folder of class folders, prepared and trained by the commands of
docs/quickstart.md, each in a process of its own: gin_configs/runs/transfer.gin as it
is, and the same passes over the same images from random weights, where everything
learns. A seed decides the new weights, the order of the images and their augmentation;
which images are held out is the same for all. The recipe was chosen on stamps alone.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.errors import UserError
from common.project import ROOT

RECIPE = "gin_configs/runs/transfer.gin"
# From random weights nothing may stand still, nor learn more slowly than the rest.
SCRATCH = (
    "experiment.Experiment.pretrained = None",
    "experiment.Experiment.new_head = False",
    "experiment.Experiment.progressive = []",
    "experiment.Experiment.learning_rate_factors = {}",
)
_PACKAGES = ("tensorflow", "keras")
_STAMPS = "usr/share/tuxpaint/stamps"
_STAMP_CLASSES = (
    "animals/birds",
    "animals/insects",
    "animals/mammals",
    "food/fruit",
    "food/vegetables",
    "plants/flowers",
    "symbols/money",
    "town/houses",
    "vehicles",
)
_EMOJI_CLASSES = (
    "Activities",
    "Animals & Nature",
    "Food & Drink",
    "Objects",
    "Smileys & Emotion",
    "Travel & Places",
)
Start = tuple[int, Sequence[str]]  # seeds, and settings
_MOST = 60  # images of a class of emoji, so that both sets take as long


@dataclasses.dataclass(frozen=True)
class Drawings:
    """A set of pictures that a registry ships.

    Attributes:
      package: what to fetch.
      find: from the folder of the unpacked package to its images by class.
    """

    package: str
    find: Callable[[Path], Mapping[str, Sequence[Path]]]


def stamps(folder: Path) -> dict[str, list[Path]]:
    """Return the stamps of nine classes, which are folders; UserError for no such."""
    root = folder / _STAMPS
    found = {
        name.rpartition("/")[2]: sorted((root / name).rglob("*.png"))
        for name in _STAMP_CLASSES
    }
    return _required(found, folder)


def emoji(folder: Path) -> dict[str, list[Path]]:
    """Return `_MOST` emoji of each of six categories; UserError for no such.

    Which ones, the SHA-256 of their names says: those of a kind lie side by side.
    """
    table = folder / "emoji.json"
    rows = json.loads(table.read_text()) if table.is_file() else []
    found: dict[str, list[Path]] = {name: [] for name in _EMOJI_CLASSES}
    for row in rows:
        image = folder / "img/twitter/64" / row["image"]
        if row["category"] in found and image.is_file():
            found[row["category"]].append(image)

    def order(image: Path) -> str:
        return hashlib.sha256(image.name.encode()).hexdigest()

    few = {name: sorted(images, key=order)[:_MOST] for name, images in found.items()}
    return _required(few, folder)


SETS = {
    "stamps": Drawings("Debian tuxpaint-stamps-default 2022.06.04", stamps),
    "emoji": Drawings("npm emoji-datasource-twitter 16.0.0", emoji),
}


def _required(found: Mapping[str, list[Path]], folder: Path) -> dict[str, list[Path]]:
    if lacking := [name for name, images in found.items() if not images]:
        raise UserError(
            f"{folder} holds no images of {', '.join(lacking)}: name the folder into "
            "which the package was unpacked, see --help"
        )
    return dict(found)


def copy_images(images: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Make a folder of class folders."""
    for name, of_class in images.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(of_class):
            shutil.copyfile(image, folder / name / f"{number:03}-{image.name}")


def run(module: str, *arguments: str) -> dict[str, float]:
    """Run a command of the project; return its minutes and seconds of CPU.

    Raises:
      UserError: it has failed; what it said stands above.
    """
    before, began = _cpu_seconds(), time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode:
        raise UserError(f"python -m {module} ended with status {done.returncode}")
    minutes = (time.perf_counter() - began) / 60
    return {"minutes": minutes, "cpu_seconds": _cpu_seconds() - before}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train(data_dir: Path, model_dir: Path, bindings: Sequence[str]) -> dict[str, float]:
    """Train once; return top-1 of averaged and raw weights, and what it has cost.

    What a measurement before has left in `model_dir` is returned as it is.
    """
    measured = model_dir / "measured.json"
    settings = (f"experiment.Experiment.data_dir = {str(data_dir)!r}", *bindings)
    if measured.is_file():
        before = json.loads(measured.read_text())
        if before["settings"] != [*settings]:
            raise UserError(f"{model_dir} was trained with other settings: delete it")
        return before["run"]
    cost = run(
        "train.main",
        f"--gin_file={RECIPE}",
        f"--model_dir={model_dir}",
        *(f"--gin_param={setting}" for setting in settings),
    )
    summary = json.loads((model_dir / "summary.json").read_text())
    row = {
        "top1": summary["ema_top1"],
        "raw_top1": summary["top1"],
        "steps": summary["steps"],
        **cost,
    }
    measured.write_text(json.dumps({"settings": settings, "run": row}))
    return row


def measure(
    name: str, source: Path, folder: Path, starts: Mapping[str, Start]
) -> dict[str, Any]:
    """Return the row of a set; `folder` keeps images, data and runs."""
    drawings = SETS[name]
    images, data_dir = folder / name, folder / "data"
    if not data_dir.is_dir():
        if not images.is_dir():
            copy_images(drawings.find(source), images)
        run("input_pipeline.prepare", *_prepare_arguments(images, data_dir))
    info = json.loads((data_dir / "dataset_info.json").read_text())
    return {
        "package": drawings.package,
        "classes": len(info["label_names"]),
        "images": {k: _images(split) for k, split in info["splits"].items()},
        "starts": {
            start: _summary(
                [
                    train(
                        data_dir,
                        folder / start.replace(" ", "_") / str(seed),
                        [*bindings, f"experiment.Experiment.seed = {seed}"],
                    )
                    for seed in range(seeds)
                ]
            )
            for start, (seeds, bindings) in starts.items()
        },
    }


def _prepare_arguments(folder: Path, data_dir: Path) -> Iterator[str]:
    yield from ("imagefolder", f"--source={folder}", f"--output={data_dir}")


def _images(split: Mapping[str, Any]) -> int:
    return sum(shard["records"] for shard in split["shards"])


def _summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return what there is to say of the runs of all seeds, in their order."""
    return {
        "top1": [round(one["top1"], 4) for one in runs],
        "mean_top1": round(statistics.mean(one["top1"] for one in runs), 4),
        "raw_top1": [round(one["raw_top1"], 4) for one in runs],
        "steps": runs[0]["steps"],
        "minutes": [round(one["minutes"], 2) for one in runs],
        "cpu_seconds": [round(one["cpu_seconds"], 1) for one in runs],
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.transfer", __doc__)
    for name, drawings in SETS.items():
        parser.add_argument(
            f"--{name}",
            type=cli.path,
            metavar="FOLDER",
            help=f"where {drawings.package} was unpacked",
        )
    parser.add_argument(
        "--seeds", type=cli.positive, default=3, help="0, 1 ... (%(default)s)"
    )
    parser.add_argument(
        "--random_seeds",
        type=cli.positive,
        help="likewise, from random weights, which takes longer (as many)",
    )
    parser.add_argument(
        "--work",
        type=cli.local_path,
        metavar="FOLDER",
        help="keep data and runs here; the same command goes on where it was stopped",
    )
    parser.add_argument(
        "--gin_param", action="append", default=[], help="another setting of all runs"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    sources = {name: getattr(arguments, name) for name in SETS}
    given = {name: Path(path) for name, path in sources.items() if path is not None}
    if not given:
        raise UserError("name a set: --stamps=FOLDER, --emoji=FOLDER or both")
    for name, source in given.items():
        SETS[name].find(source)  # so that a mistake shows before an hour of work
    hardware = machine.describe()
    own = arguments.gin_param
    starts: dict[str, Start] = {
        "trained weights": (arguments.seeds, own),
        "random weights": (
            arguments.random_seeds or arguments.seeds,
            (*SCRATCH, *own),
        ),
    }
    with contextlib.ExitStack() as stack:
        work = arguments.work
        if work is None:
            work = stack.enter_context(tempfile.TemporaryDirectory())
        rows = {
            name: measure(name, source, Path(work, name), starts)
            for name, source in given.items()
        }
    report = {
        "benchmark": "transfer",
        "recipe": RECIPE,
        "gin_param": arguments.gin_param,
        "cores": os.cpu_count(),
        "sets": rows,
        "machine": hardware,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "does_not_show": "other networks; photos of a camera; more than two cores",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
