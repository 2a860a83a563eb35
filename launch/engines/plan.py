"""What a verb of an engine does: files, and the commands that read them."""

import dataclasses
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import console
from common.errors import UserError

_COLUMNS = 96
_END = "END_OF_FILE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A program that is started without a shell.

    Attributes:
      words: the program and its arguments.
      stdin: what it reads; "" leaves it the terminal.
      environment: variables beside those of this process.
      install: how a person gets the program.
    """

    words: Sequence[str]
    stdin: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    install: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, in order.

    Attributes:
      commands: each has to end well before the next.
      files: content by name; they lie in a new folder, in which the commands run.
      afterwards: lines for a person, of what is left to do.
      looks: whether it only looks, so that all commands run, whatever becomes of one.
    """

    commands: Sequence[Command]
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    afterwards: Sequence[str] = ()
    looks: bool = False

    def run(self) -> None:
        """Do it; what the commands print comes through, after each of them itself.

        Raises:
          UserError: a program is missing, or has ended with another status than 0.
        """
        failed: UserError | None = None
        with tempfile.TemporaryDirectory(prefix="launch-") as folder:
            for name, text in self.files.items():
                Path(folder, name).write_text(text)
            for command in self.commands:
                try:
                    _run(command, folder)
                except UserError as error:
                    if not self.looks:
                        raise
                    failed = failed or error
        if failed:
            raise failed

    def as_bash(self) -> str:
        """Return the same as a script, which ends where `run` would."""
        lines = ["#!/usr/bin/env bash", *([] if self.looks else ["set -euo pipefail"])]
        lines += ['cd "$(mktemp --directory)"'] if self.files else []
        lines += [here_document(f"cat >{n}", text) for n, text in self.files.items()]
        for command in self.commands:
            variables = command.environment.items()
            before = (f"{name}={shlex.quote(text)}" for name, text in variables)
            line = " ".join((*before, wrapped(command.words)))
            lines.append(here_document(line, command.stdin) if command.stdin else line)
        lines += [f"# {line}" for line in self.afterwards]
        return "\n".join(lines) + "\n"


def _run(command: Command, folder: str) -> None:
    words = list(command.words)
    console.say(f"$ {console.escaped(shlex.join(words))}")
    try:
        ended = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, **command.environment},
            input=command.stdin or None,
            text=True,
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{words[0]} is not there: {command.install}; --dry_run shows what would "
            "be done with it"
        ) from error
    if ended.returncode:
        shown = shlex.join(words[:3])
        raise UserError(f"{shown} ... has ended with {ended.returncode}, see above")


def wrapped(words: Sequence[str], indent: str = "  ") -> str:
    """Return a command as a line for bash, broken at arguments where it is long."""
    lines, line = [], ""
    for word in map(shlex.quote, words):
        if line and len(line) + len(word) + 3 > _COLUMNS:
            lines.append(f"{line} \\")
            line = f"{indent}{word}"
        else:
            line = f"{line} {word}" if line else word
    return "\n".join((*lines, line))


def here_document(line: str, text: str) -> str:
    """Return a line for bash that reads a text, whatever stands in it."""
    end = _END
    while f"\n{end}\n" in f"\n{text}\n":
        end += "_"
    return f"{line} <<'{end}'\n{text}{'' if text.endswith(chr(10)) else chr(10)}{end}"
