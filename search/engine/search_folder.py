"""A search's folder says what is searched: another search in it is refused.

search.json holds the command, the config's text, the space and the versions. What does
not decide which networks come may be another in the next life.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import claims, console, files
from common.errors import UserError
from common.version import VERSION
from search.block_search import MAY_CHANGE

NAME = "search.json"
_OURS = ("results.jsonl", "results", "engine.journal", "leases", "trials", "stages")
_PACKAGES = ("optuna", "numpy")
_MAY_CHANGE = re.compile(
    rf"^\s*(?:search\.)?block_search\.BlockSearch\.(?:{'|'.join(MAY_CHANGE)})\s*="
)
# Which modules a text names its settings from; the command line imports all of ours.
_IMPORT = re.compile(r"from __gin__ import dynamic_registration|from search import \w+")
_SHOWN = 8  # differing lines


@dataclasses.dataclass(frozen=True)
class Identity:
    """What makes a search this one and no other.

    Attributes:
      config: its text, without what may change.
      space: the space's fingerprint, which tells when its making has changed.
    """

    config: str
    space: str

    @property
    def study(self) -> str:
        """The search's name in a database: equal searches have equal ones."""
        digest = hashlib.sha256(f"{self.config}\n{self.space}".encode()).hexdigest()
        return f"search-{digest[:16]}"


def identity(config: str, space: str) -> Identity:
    """Return what of a search decides its networks.

    Args:
      config: gin's text of all settings.
      space: what is searched, the same for equal searches, as a space's fingerprint.
    """
    return Identity(_canonical(config), space)


def _canonical(config: str) -> str:
    """Return a config's lines without headings, our imports and what may change."""
    lines = [line.rstrip() for line in config.splitlines()]
    kept = [
        line
        for line in lines
        if line
        and line[0] != "#"
        and not _IMPORT.fullmatch(line)
        and not _MAY_CHANGE.match(line)
    ]
    return "\n".join(kept)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a search's folder, which is made if need be, against other processes.

    Raises:
      UserError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}; name another folder"
        ) from error
    with claims.hold(str(folder), "a search"):
        yield


def enter(folder: Path, search: Identity, storage: str, command: Sequence[str]) -> None:
    """Make a search's folder, or see that it is this one's.

    Args:
      folder: need not exist.
      search: what is searched.
      storage: where workers share it; without a password.
      command: that was given, for a person.

    Raises:
      UserError: another search is there, something else is, or it cannot be written.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _compare(read(folder), search, path)
            return
        if taken := [name for name in _OURS if (folder / name).exists()]:
            raise UserError(
                f"{folder} has {taken[0]}, but no {NAME} that says of which search: "
                "name another folder"
            )
        found = {
            "command": shlex.join(command),
            "storage": storage,
            "study": search.study,
            "space": search.space,
            "config": search.config,
            "versions": {"efficientnet-x": VERSION, **_versions()},
        }
        files.write_bytes(path, json.dumps(found, indent=1).encode() + b"\n")
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or folder}: {error.strerror}; mend the "
            "permissions, free some space, or name another folder"
        ) from error


def read(folder: Path) -> dict[str, Any]:
    """Return what search.json says; raises UserError where it is none of ours."""
    path = folder / NAME
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder} is no search's folder: it has no {NAME}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    wanted = ("command", "storage", "study", "space", "config", "versions")
    if not isinstance(found, dict) or not all(name in found for name in wanted):
        raise UserError(f"{path} is not what this command has written")
    return found


def _compare(found: dict[str, Any], search: Identity, path: Path) -> None:
    before = _canonical(str(found["config"]))  # an earlier version kept more lines
    if before != search.config:
        lines = difflib.unified_diff(
            before.splitlines(), search.config.splitlines(), n=0, lineterm=""
        )
        changes = [line for line in lines if line[:2] not in ("--", "++", "@@")]
        for line in changes[:_SHOWN]:
            console.say(f"  {console.escaped(line)}")
        if len(changes) > _SHOWN:
            console.say(f"  ... {len(changes) - _SHOWN} more")
        raise UserError(
            f"{path} is of a search with another config: it has the lines with -, this "
            "one those with +, above; name another folder, or go back to the old lines"
        )
    if found["space"] != search.space:
        raise UserError(
            f"{path}: the config is the same, but what it makes is another space: the "
            "code or a table has changed. Name another folder"
        )
    ours, now = found["versions"], {"efficientnet-x": VERSION, **_versions()}
    for name, version in now.items():
        if ours.get(name) != version:
            console.warn(
                f"the search was begun with {name} {ours.get(name)}, this is "
                f"{version}: its results may not compare"
            )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
