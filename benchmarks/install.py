"""What the set-up costs: seconds and megabytes, in one line of JSON.

python -m benchmarks.install --installers=uv,pip --cache=empty

Makes environments in a temporary folder with the Makefile and the locks of this
checkout: what training needs (core), what `make setup` installs, what `make test` adds,
and the whole of requirements.txt. Each builds on the one before, but for the last.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.support import machine, results
from common import cli
from common.console import say
from common.errors import UserError
from common.project import ROOT

INSTALLERS = ("uv", "pip")
_TARGETS = {
    "core": ".venv/.has-core",
    "make setup": "setup",
    "make test": ".venv/.has-dev",
}
_WHOLE = "requirements.txt"
_COPIED = ("Makefile", "requirements", _WHOLE)


def megabytes(folder: Path) -> int:
    """Return what the files of a folder take on a disk, in MiB, as du -sm does."""
    sizes = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return round(sum(sizes.values()) / 2**20)


def _measure(folder: Path, installer: str, cache: Path | None) -> list[dict[str, Any]]:
    """Return a row for each environment."""
    environment = {**os.environ, "INSTALLER": installer, "PYTHON": sys.executable}
    if cache is not None:
        environment |= {"UV_CACHE_DIR": f"{cache}/uv", "PIP_CACHE_DIR": f"{cache}/pip"}
    for name in _COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, folder / name
        )
    rows, seconds = [], 0.0

    def timed(*commands: list[str]) -> float:
        start = time.perf_counter()
        for command in commands:
            say(f"{installer}: {' '.join(command)}")
            done = subprocess.run(
                command, cwd=folder, env=environment, stdout=sys.stderr, check=False
            )
            if done.returncode:
                raise UserError(f"{' '.join(command)} ended with {done.returncode}")
        return time.perf_counter() - start

    def add(name: str, seconds: float) -> None:
        rows.append(
            {
                "installer": installer,
                "what": name,
                "seconds": round(seconds, 1),
                "megabytes": megabytes(folder / ".venv"),
            }
        )

    for name, target in _TARGETS.items():
        seconds += timed(["make", "--silent", target])
        add(name, seconds)
    shutil.rmtree(folder / ".venv")
    seconds = timed(
        ["requirements/environment", ".venv", sys.executable],
        ["requirements/install", ".venv/bin/python", _WHOLE],
    )
    add(_WHOLE, seconds)
    return rows


def _installers(text: str) -> list[str]:
    found = cli.names(text)
    if unknown := set(found) - set(INSTALLERS):
        raise argparse.ArgumentTypeError(f"{min(unknown)} is not uv or pip")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.install", __doc__)
    parser.add_argument("--installers", type=_installers, default=list(INSTALLERS))
    parser.add_argument(
        "--cache",
        choices=("empty", "kept"),
        default="empty",
        help="whether everything is downloaded, or what this machine has kept is taken",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    rows = []
    for installer in arguments.installers:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made, "checkout")
            folder.mkdir()
            cache = Path(made, "cache") if arguments.cache == "empty" else None
            rows += _measure(folder, installer, cache)
    report = {
        "benchmark": "install",
        "rows": rows,
        "seconds_are": "from no .venv at all, making it included",
        "megabytes_are": "of .venv with bytecode, 2**20 bytes",
        "cache": arguments.cache,
        "machine": hardware,
        "versions": {"python": platform.python_version()},
        "does_not_show": "another network or package index; the locks of GPUs and "
        "TPUs; the TPU compiler's environment",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
