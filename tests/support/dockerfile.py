"""What an engine makes of the Dockerfile and of .dockerignore, as far as ours go."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from common.project import ROOT


class Instruction(NamedTuple):
    """One instruction: its name, and what follows, continued lines joined."""

    name: str
    text: str


class Stage(NamedTuple):
    """What stands between two FROMs."""

    name: str
    base: str
    instructions: list[Instruction]


def instructions(text: str) -> list[Instruction]:
    """Read a Dockerfile; comments may stand between continued lines."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [Instruction(*line.split(None, 1)) for line in joined.splitlines()]


def stages(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first FROM and the stages."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in instructions(text):
        if instruction.name == "FROM":
            base, _, name = instruction.text.partition(" AS ")
            found.append(Stage(name, base, []))
        elif found:
            found[-1].instructions.append(instruction)
        else:
            assert instruction.name == "ARG", instruction
            name, _, default = instruction.text.partition("=")
            arguments[name] = default
    return arguments, found


def copied(stage: Stage) -> dict[str, str]:
    """Return what a stage copies out of the context: sources to targets."""
    pairs = [one.text.split() for one in stage.instructions if one.name == "COPY"]
    return dict(pair for pair in pairs if not pair[0].startswith("--from="))


def context(root: Path, ignore: str) -> set[str]:
    """Return the files below a folder that an engine is sent.

    By Docker's documentation of .dockerignore: a pattern matches a path or a folder
    that the path lies in, the last one that matches decides, `!` takes it back, `**` is
    any number of folders, `*` and `?` stop at `/`. A folder that is left out is entered
    if a `!` names something in it.
    """
    lines = [line.strip() for line in ignore.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    rules = [(_expression(one.lstrip("!")), one.startswith("!")) for one in patterns]

    def is_sent(name: str) -> bool:
        said = [sent for pattern, sent in rules if pattern.fullmatch(name)]
        return said[-1] if said else True

    def is_entered(name: str) -> bool:
        return is_sent(name) or any(one.startswith(f"!{name}/") for one in patterns)

    sent = set()
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root)
        folders[:] = [one for one in folders if is_entered(_join(below, one))]
        sent |= {name for one in files if is_sent(name := _join(below, one))}
    return sent


def _join(folder: str, name: str) -> str:
    return os.path.normpath(os.path.join(folder, name))


def _expression(pattern: str) -> re.Pattern[str]:
    """Translate a pattern; what lies below a folder that it matches matches, too."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(p, re.escape(p)) for p in parts) + "(?:/.*)?")


DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
