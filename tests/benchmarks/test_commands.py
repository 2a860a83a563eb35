import ast

import pytest

from benchmarks import commands
from benchmarks.commands import UNKNOWN_FLAG, Answer, Answers, Command

FOUND = commands.find()
# Processes that a command starts for itself, some in an environment of their own.
NO_COMMAND = {
    "benchmarks.support.device.part",
    "benchmarks.support.lite_torch",
    "benchmarks.support.prepare_sides",
    "launch.engines.checks.checker",
    "launch.host.tied",
    "launch.rehearsal.client",
    "launch.rehearsal.worker",
    "search.engine.evaluation",
    "search.engine.with_parent",
    "search.engine.worker",
    "tpu_compiler.worker",
}


def is_run_as_a_program(tree):
    """Whether a module has its `if __name__ == "__main__"`."""
    tests = (node.test for node in tree.body if isinstance(node, ast.If))
    return any(
        isinstance(test, ast.Compare) and getattr(test.left, "id", "") == "__name__"
        for test in tests
    )


def test_every_command_is_found():
    programs = {name for name, tree in commands.modules() if is_run_as_a_program(tree)}
    assert {command.name for command in FOUND} == programs - NO_COMMAND
    assert len(FOUND) > 20


@pytest.mark.parametrize("command", FOUND, ids=lambda command: command.name)
def test_a_command_answers_at_once(command):
    """By CPU time, so that it does not matter what else the machine does."""
    answers = Answers.of(command)
    assert answers.are_right(), answers


SOURCE = """
from common import cli

def _parser():
    parser = cli.parser("a.b", __doc__)
    parser.add_argument("data", type=cli.positive)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=cli.number(int, least=1))
    return parser

@cli.command(_parser, interrupted="as it was")
def main(arguments):
    pass
"""


def test_finds_commands_by_their_sources(tmp_path):
    for path in ("a/__init__.py", "tests/__init__.py", "a/library.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("def main(): pass")
    (tmp_path / "a/deeper").mkdir()
    (tmp_path / "no_package").mkdir()
    (tmp_path / "a/deeper/b.py").write_text(SOURCE)
    (tmp_path / "a/__main__.py").write_text(SOURCE.replace("cli.number", "number"))
    (tmp_path / "tests/b.py").write_text(SOURCE)
    (tmp_path / "no_package/b.py").write_text(SOURCE)
    assert commands.find(tmp_path) == [
        Command("a", "--count=no such value"),
        Command("a.deeper.b", "--count=no such value"),
    ]


@pytest.mark.parametrize(
    ("help", "unknown_flag", "wrong_value", "right"),
    [
        (Answer(0, 0.1), Answer(2, 0.1), None, True),
        (Answer(0, 0.1), Answer(2, 0.1), Answer(2, 0.1), True),
        (Answer(0, 1.1), Answer(2, 0.1), None, False),
        (Answer(1, 0.1), Answer(2, 0.1), None, False),
        (Answer(0, 0.1), Answer(1, 0.1), None, False),
        (Answer(0, 0.1), Answer(2, 0.1), Answer(1, 0.1), False),
    ],
)
def test_what_a_command_promises(help, unknown_flag, wrong_value, right):
    assert Answers(help, unknown_flag, wrong_value).are_right() is right


def test_report(monkeypatch, capsys):
    asked = []

    def ask(command, argument):
        asked.append((command.name, argument))
        return Answer(0 if argument == "--help" else 2, 0.25)

    monkeypatch.setattr(Command, "ask", ask)
    monkeypatch.setattr(commands, "find", lambda: [Command("a.b", None)])
    assert commands.main([]) == 0
    assert asked == [("a.b", "--help"), ("a.b", UNKNOWN_FLAG)]
    said = capsys.readouterr()
    assert '"a.b": {"help": {"status": 0, "cpu_seconds": 0.25}' in said.out
    assert "0.25 (2)" in said.err
