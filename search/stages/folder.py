"""The folder of a neural architecture search: a file for each stage that is done.

    search.json          what is searched, as of every search
    command.json         how it was asked for last: which stages, which are left out,
                         and by which path
    stages/NAME.json     a stage that is done, with what came of it
    logs/NAME.log        what its commands said
    gin/                 the configs that these commands were given
    networks/NAME.gin    a network, behind a recipe; NAME.txt is its row of a table, and
                         NAME.safetensors are its weights out of the supernet
    supernet/            the run of `train.main` that trains all networks at once
    random/, evolution/  searches of `search.blocks`, with their trials
    final/NAME-seed-K/   runs of `train.main`: the found network and its rivals
    export/              the SavedModel
    latency.jsonl        what sources of latency said that take long

A stage is done when its file is there: it is written last, and whole.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from common import files
from common.errors import UserError

COMMAND = "command.json"
SUPERNET, RANDOM, EVOLUTION, FINAL = "supernet", "random", "evolution", "final"
FOUND = "found"
TRUST = "trust"
EXPORT = "export"
CHECK = "check"  # a look at the configs, before anything is done


def opened(path: Path) -> "NasFolder":
    """Return a search's folder, by the path by which it was begun.

    Its configs, and what the runs below it have saved, name files by that path.

    Args:
      path: of the folder; or a link to where it is now, or from there.

    Raises:
      UserError: it was moved or copied; says how it goes on.
    """
    folder = NasFolder(path.absolute())
    before = Path((folder.read(folder / COMMAND) or {}).get("folder", folder.path))
    if before == folder.path:
        return folder
    if not before.exists():
        raise UserError(
            f"{folder.path} was begun as {before}, and its configs and runs name their "
            "files so: move it back, or leave a link there (ln -s "
            f"{shlex.join([str(folder.path), str(before)])}), and give the command "
            "again"
        )
    if not before.samefile(folder.path):
        raise UserError(
            f"{folder.path} is a copy of {before}, whose files its configs and runs "
            "name: go on there, or name another folder"
        )
    return NasFolder(before)


class NasFolder:
    """Paths of a search's folder, and what its stages have left there.

    Attributes:
      path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def stage(self, name: str) -> dict[str, Any] | None:
        """Return what came of a stage; None where it is not done.

        Raises:
          UserError: its file cannot be read.
        """
        return self.read(self._stage(name))

    def finish(self, name: str, found: dict[str, Any]) -> dict[str, Any]:
        """Write down what came of a stage, and return it; so it is done."""
        self.write(self._stage(name), json.dumps(found, indent=1) + "\n")
        return found

    def _stage(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"

    def log(self, name: str) -> Path:
        """Return the file of what a stage's command says."""
        return self.path / "logs" / f"{name}.log"

    def gin(self, name: str) -> Path:
        """Return the file of a config that a stage's command is given."""
        return self.path / "gin" / f"{name}.gin"

    def network(self, name: str) -> Path:
        """Return the gin file of a network."""
        return self.path / "networks" / f"{name}.gin"

    def weights(self, name: str) -> Path:
        """Return the file of a network's weights, as they were in the supernet."""
        return self.path / "networks" / f"{name}.safetensors"

    def run(self, name: str, seed: int) -> Path:
        """Return the folder of a final training."""
        return self.path / FINAL / f"{name}-seed-{seed}"

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return the object in a file of JSON, None where there is none.

        Raises:
          UserError: it cannot be read.
        """
        try:
            found = json.loads(path.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it holds no object")
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} cannot be read: {error}; remove it: its stage is done again"
            ) from error

    def write(self, path: Path, text: str) -> None:
        """Write a file of this search, whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != text.encode():
                files.write_bytes(path, text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write {error.filename or path}: {error.strerror}; free some "
                "space or mend the permissions, and give the command again"
            ) from error
