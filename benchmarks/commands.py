"""What it costs to ask a command something: one line of JSON, and a table.

    python -m benchmarks.commands

Runs every command of the house with --help, with a flag that it does not have and,
where its source shows one that is checked, with a flag of a wrong value, and takes the
CPU seconds of the process and its children. Nothing slow may be imported for that.

Exit status: 0 all answer as they should in under a second of CPU, 1 one does not.
"""

import argparse
import ast
import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.support import machine, results
from common import cli, console
from common.errors import Status
from common.project import ROOT

LIMIT = 1.0  # CPU seconds
UNKNOWN_FLAG = "--no_such_flag=1"
_CHECKED = ("type", "choices")  # what makes argparse look at a value
# The paths of common.cli refuse next to nothing.
_UNCHECKED = ("str", "Path", "path", "local_path", "weights_path")


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a process ended: its exit status, and CPU seconds with its children's."""

    status: int
    cpu_seconds: float

    def keeps(self, status: Status) -> bool:
        """Whether it ended so, and soon."""
        return self.status == status and self.cpu_seconds < LIMIT


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the house.

    Attributes:
      name: what stands behind "python -m".
      wrong_value: an argument that it has to refuse; None where none was found.
    """

    name: str
    wrong_value: str | None

    def ask(self, argument: str) -> Answer:
        """Run it with one argument."""
        process = subprocess.Popen(
            [sys.executable, "-m", self.name, argument],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Answer(process.returncode, round(used.ru_utime + used.ru_stime, 3))


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of one command; `wrong_value` is None where there is no such question."""

    help: Answer
    unknown_flag: Answer
    wrong_value: Answer | None

    @classmethod
    def of(cls, command: Command) -> "Answers":
        """Ask a command all questions."""
        wrong = command.wrong_value
        return cls(
            command.ask("--help"),
            command.ask(UNKNOWN_FLAG),
            None if wrong is None else command.ask(wrong),
        )

    def are_right(self) -> bool:
        """Whether they are what a command promises."""
        mistakes = filter(None, (self.unknown_flag, self.wrong_value))
        return self.help.keeps(Status.OK) and all(
            answer.keeps(Status.MISTAKE) for answer in mistakes
        )


def find(root: Path = ROOT) -> list[Command]:
    """Return the commands below a folder, by the alphabet.

    A command is a module whose `main` is made by `common.cli.command`.
    """
    commands = [
        Command(name, _wrong_value(tree))
        for name, tree in modules(root)
        if any(map(_is_main, tree.body))
    ]
    return sorted(commands, key=lambda command: command.name)


def modules(root: Path = ROOT) -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules that python -m could run, tests apart, and what they say."""
    for package in root.iterdir():
        if package.name == "tests" or not (package / "__init__.py").exists():
            continue
        for path in package.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__main__" else parts)
            yield name, ast.parse(path.read_text())


def _is_main(node: ast.stmt) -> bool:
    """Whether a statement is `@cli.command(...) def main`."""
    if not isinstance(node, ast.FunctionDef) or node.name != "main":
        return False
    return any(
        isinstance(decorator, ast.Call) and _last_name(decorator.func) == "command"
        for decorator in node.decorator_list
    )


def _wrong_value(tree: ast.Module) -> str | None:
    """Return "--flag=..." of the first flag whose value a parser has to refuse."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _last_name(node.func) != "add_argument":
            continue
        checked = any(
            option.arg in _CHECKED and _last_name(option.value) not in _UNCHECKED
            for option in node.keywords
        )
        flag = node.args[0] if node.args else None
        if (
            checked
            and isinstance(flag, ast.Constant)
            and str(flag.value).startswith("--")
        ):
            return f"{flag.value}=no such value"
    return None


def _last_name(node: ast.expr) -> str:
    """Return "c" of a.b.c and of c, "" of anything else."""
    return getattr(node, "attr", getattr(node, "id", ""))


def _rows(answers: dict[str, Answers]) -> Iterator[Sequence[str]]:
    yield "CPU seconds (exit status)", "--help", "an unknown flag", "a wrong value", ""
    for name, found in answers.items():
        cells = (
            "" if one is None else f"{one.cpu_seconds:.2f} ({one.status})"
            for one in (found.help, found.unknown_flag, found.wrong_value)
        )
        yield name, *cells, "" if found.are_right() else "NO"


def _parser() -> argparse.ArgumentParser:
    return results.parser("benchmarks.commands", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Ask all commands, and print what they cost."""
    hardware = machine.describe()  # before this benchmark is part of the load
    answers = {command.name: Answers.of(command) for command in find()}
    console.say("\n".join(console.table(list(_rows(answers)), right=True)))
    report = {
        "benchmark": "commands",
        "commands": {name: dataclasses.asdict(one) for name, one in answers.items()},
        "limit_cpu_seconds": LIMIT,
        "machine": hardware,
        "versions": {"python": platform.python_version()},
        "does_not_show": "seconds by the clock, which hang on the disk, too",
    }
    results.publish(report, arguments.output)
    right = all(found.are_right() for found in answers.values())
    return Status.OK if right else Status.NO


if __name__ == "__main__":
    sys.exit(main())
