"""What the set-up costs: seconds and megabytes, in one line of JSON.

    python -m benchmarks.install --cases=uv-kept,uv-empty,pip-empty

Makes environments in a temporary folder with the Makefile and the locks of this
checkout: what training needs (core), what `make setup` installs, what `make test` adds,
and the whole of requirements.txt. Each builds on the one before, but for the last. A
case is an installer with the cache that this machine has kept, or with an empty one,
for which everything is downloaded.
"""

import argparse
import json
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

CASES = ("uv-kept", "uv-empty", "pip-empty", "pip-kept")
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


def _measure(folder: Path, installer: str, cache: str) -> list[dict[str, Any]]:
    """Return a row for each environment."""
    environment = {**os.environ, "INSTALLER": installer, "PYTHON": sys.executable}
    if cache == "empty":
        environment |= {f"{one}_CACHE_DIR": f"{folder}/{one}" for one in ("UV", "PIP")}
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
                "cache": cache,
                "what": name,
                "seconds": round(seconds, 1),
                "megabytes": megabytes(folder / ".venv"),
                "load_average": round(os.getloadavg()[0], 1),
            }
        )
        say(json.dumps(rows[-1]))

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


def _cases(text: str) -> list[str]:
    found = cli.names(text)
    for one in found:
        if one not in CASES:
            raise argparse.ArgumentTypeError(f"{one} is none of {', '.join(CASES)}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.install", __doc__)
    parser.add_argument(
        "--cases", type=_cases, default=list(CASES[:3]), help=f"of {', '.join(CASES)}"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line."""
    hardware = machine.describe()  # before this benchmark is part of the load
    rows = []
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            rows += _measure(Path(folder), *case.split("-"))
    report = {
        "benchmark": "install",
        "rows": rows,
        "seconds_are": "from no .venv at all, making it included",
        "megabytes_are": "of .venv with bytecode, 2**20 bytes",
        "machine": hardware,
        "versions": {"python": platform.python_version()},
        "does_not_show": "another network or package index; the locks of GPUs and "
        "TPUs; the TPU compiler's environment",
    }
    results.publish(report, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
