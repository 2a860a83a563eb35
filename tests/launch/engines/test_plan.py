import subprocess

import pytest

from common.errors import UserError
from launch.engines.plan import Command, Plan, here_document, wrapped


def command(*words, **options):
    return Command(words=words, install="install it", **options)


def test_a_plan_as_a_script_does_what_it_does(tmp_path, capfd):
    out = tmp_path / "out"
    copy = 'cp "$1" "$2"; cat; echo " $V"'
    plan = Plan(
        files={"a": "it's $HOME\n"},
        commands=[
            command(
                *("bash", "-c", copy, "-", "a", str(out)),
                stdin="read `me`\n",
                environment={"V": "x 'y'"},
            ),
        ],
        afterwards=["what is left"],
    )
    plan.run()
    assert out.read_text() == "it's $HOME\n"
    said = capfd.readouterr()
    assert said.out == "read `me`\n x 'y'\n"
    assert said.err.startswith('$ bash -c \'cp "$1"')
    out.unlink()
    ended = subprocess.run(["bash", "-c", plan.as_bash()], capture_output=True)
    assert ended.stdout.decode() == said.out
    assert out.read_text() == "it's $HOME\n"
    assert plan.as_bash().endswith("# what is left\n")


def test_the_first_command_that_fails_ends_a_plan_that_does_something(capfd):
    commands = [command("false"), command("echo", "second")]
    with pytest.raises(UserError, match=r"^false \.\.\. has ended with 1, see above$"):
        Plan(commands=commands).run()
    assert "second" not in capfd.readouterr().out
    with pytest.raises(UserError, match=r"^false \.\.\."):
        Plan(commands=commands, looks=True).run()
    assert capfd.readouterr().out == "second\n"


def test_a_program_that_is_missing(capfd):
    with pytest.raises(UserError, match=r"^no-such-program is not there: install it; "):
        Plan(commands=[command("no-such-program")]).run()


def test_a_document_may_hold_its_own_end():
    text = "one\nEND_OF_FILE\nEND_OF_FILE_\n$(two)"
    ended = subprocess.run(
        ["bash", "-c", here_document("cat", text)], capture_output=True, text=True
    )
    assert ended.stdout == text + "\n"


def test_long_lines_are_broken_between_arguments():
    words = ["echo", *(f"--argument={number} '{number}" for number in range(20))]
    script = wrapped(words)
    assert max(map(len, script.splitlines())) <= 96
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert ended.stdout == " ".join(words[1:]) + "\n"


def test_a_script_ends_where_its_plan_would():
    commands = [command("false"), command("echo", "second")]
    for looks, said in ((False, ""), (True, "second\n")):
        script = Plan(commands=commands, looks=looks).as_bash()
        ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert ended.stdout == said
        assert bool(ended.returncode) is not looks
