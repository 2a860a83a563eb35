import argparse
import errno
import gc
import os
import signal
import subprocess
import sys
import time

import pytest

from common import cli
from common.cli import changes, names, number, positive
from common.errors import Restart, Status, UserError
from common.project import ROOT


def test_positive():
    assert positive("1") == 1
    assert positive("2147483647") == 2**31 - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "0 is not 1 or more"),
        ("-3", "-3 is not 1 or more"),
        ("x", "x is not a whole number"),
        ("", " is not a whole number"),
        ("1.5", "1.5 is not a whole number"),
        ("2147483648", "2147483648 is more than 2,147,483,647"),
    ],
)
def test_what_is_not_positive(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        positive(text)
    assert str(raised.value) == message


def test_a_path():
    for text in ("a", "/a/b", "gs://bucket/a", "./~", "a/~", "~a", "\xe9", "a\n"):
        assert cli.path(text) == text
    assert cli.path("file:///a") == "/a"
    assert cli.path("file://./~/a") == "./~/a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty: name a file or folder"),
        (" ", "it is empty: name a file or folder"),
        ("file://", "it is empty: name a file or folder"),
        (os.fsdecode(b"\xe9t\xc3\xa9"), "\\xe9t\xe9 is not UTF-8, as paths have to "
         "be: rename it, or name another"),
        *((text, f"{text} names no bucket: write gs://BUCKET/FOLDER, or ./{text} if "
           "you mean a folder of this name")
          for text in ("gs://", "gs:/bucket/a", "gs:///a", "GS:a")),
    ],
)  # fmt: skip
def test_no_path(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        cli.path(text)
    assert str(raised.value) == message


def test_a_path_of_any_bytes():
    name = os.fsdecode(b"\xe9t")
    assert cli.local_path(name) == name
    with pytest.raises(argparse.ArgumentTypeError, match="it is empty"):
        cli.local_path("")


@pytest.mark.parametrize("text", ["a", "gs://b/[x", "a]", "r*n?", "[]", "{a,b}", "[/]"])
def test_a_path_of_weights(text):
    assert cli.weights_path(text) == text


@pytest.mark.parametrize(
    ("text", "part"), [("runs [2]/a", "[2]"), ("a\\b", "\\"), ("x/[!a]*", "[!a]")]
)
def test_a_path_that_is_a_pattern(text, part):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        cli.weights_path(text)
    assert str(raised.value) == (
        f"{text}: TensorFlow reads no weights under a name with {part}, which it takes "
        "for a pattern: rename the folder, or name another"
    )


def test_names():
    assert names(" b, a,,b ,c") == ["b", "a", "c"]


@pytest.mark.parametrize("text", ["", " , ,"])
def test_no_name(text):
    with pytest.raises(argparse.ArgumentTypeError, match="no name given"):
        names(text)


def test_changes():
    text = "{3: {'kernel_size': 3, 'se_ratio': 0.5}, 1: {'activation': 'relu'}}"
    assert changes(text) == {
        3: {"kernel_size": 3, "se_ratio": 0.5},
        1: {"activation": "relu"},
    }
    assert changes("{2: {'fused': True}}") == {2: {"fused": True}}


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "{3: 4}",
        "{3: {'fused': yes}}",
        "{3",
        "",
        "{[]: {}}",
        "(" * 999,
        "-" * 99999,
    ],
)
def test_what_changes_nothing(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not of the form"):
        changes(text)


@pytest.mark.parametrize(
    "value", ["[1]", "None", "65537", "-65537", "1e999", "1j", "{}"]
)
def test_what_no_field_can_be(value):
    with pytest.raises(argparse.ArgumentTypeError, match="is no name, True, False or"):
        changes(f"{{3: {{'se_ratio': {value}}}}}")


def test_a_number_below_another():
    read = number(least=0, below=1)
    assert (read("0"), read("0.5")) == (0, 0.5)
    for text in ("1", "-0.1", "nan", "x"):
        with pytest.raises(
            argparse.ArgumentTypeError, match="is not a number, 0 or more and below 1"
        ):
            read(text)


def command(run):
    """The `main` of a command that takes a file."""

    def parser():
        made = cli.parser("some.command", "What it does.")
        made.add_argument("file")
        return made

    return cli.command(parser, interrupted="stopped here")(run)


def raising(error):
    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "said"),
    [
        (lambda arguments: None, 0, ""),
        (lambda arguments: Status.NO, 1, ""),
        (
            raising(UserError("no such thing as a\n\x1b[31mb; mend it\n")),
            2,
            "error: no such thing as a\\n\\x1b[31mb; mend it\n",
        ),
        (raising(UserError()), 2, "error: UserError\n"),
        (
            raising(Restart("a host is\rgone")),
            75,
            "a host is\\rgone; the same command goes on\n",
        ),
        (raising(KeyboardInterrupt()), 130, "stopped here\n"),
        (
            raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a\nb.csv")),
            2,
            "error: a\\nb.csv: No space left on device\n",
        ),
        (raising(OSError(errno.EIO, "it is broken")), 2, "error: it is broken\n"),
    ],
)
def test_how_a_command_ends(run, status, said, capsys):
    assert command(run)(["file"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ZeroDivisionError("by us"), OSError("by us")])
def test_a_mistake_of_ours_keeps_its_traceback_and_is_no_answer(error, capsys):
    assert command(raising(error))(["file"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == f"{type(error).__name__}: by us"


def test_a_mistake_in_a_flag_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("HOME", "")
    parser = cli.parser("some.command", None)
    one = parser.add_subparsers().add_parser("one")
    one.add_argument("--output", type=cli.path)
    with pytest.raises(SystemExit):
        parser.parse_args(["one", "--output=~/a\n\x1b[1mb"])
    assert capsys.readouterr().err.splitlines()[1:] == [
        "python -m some.command one: error: argument --output: ~/a\\n\\x1b[1mb would "
        "be a folder named ~, for HOME names no home folder: set it, or write "
        "./~/a\\n\\x1b[1mb if you mean it"
    ]


@pytest.mark.parametrize("mistake", [[], ["file", "more"], ["file", "--fil=x"]])
def test_a_mistake_in_the_flags(mistake, capsys):
    with pytest.raises(SystemExit) as ended:
        command(lambda arguments: pytest.fail("it ran"))(mistake)
    assert ended.value.code == 2
    assert "python -m some.command: error: " in capsys.readouterr().err


_CODE = """
import argparse, sys
from common import cli
from common.errors import Status

def run(arguments):
    print("x" * 100_000)
    return Status.NO

command = cli.command(argparse.ArgumentParser, outlives_pipes={outlives})(run)
sys.exit(command([]))
"""


@pytest.mark.parametrize(
    ("outlives", "status"), [(False, -signal.SIGPIPE), (True, Status.OK)]
)
def test_a_closed_pipe_ends_in_silence_what_only_prints(outlives, status):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(outlives=outlives)],
        stdout=writes,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (status, b"")


_PRINTS = """
import argparse, sys
from common import cli, console
from common.errors import Status

def run(arguments):
    console.say("begins")
    opened = open("/dev/null")
    assert opened.fileno() > 2, "a closed stream is open"
    print("caf\\xe9 \\x1b[2J" + "x" * {count})
    return Status.OK

command = cli.command(argparse.ArgumentParser, outlives_pipes={outlives})(run)
sys.exit(command([]))
"""
_FULL = "cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("count", [0, 100_000])
@pytest.mark.parametrize(
    ("streams", "outlives", "status", "out", "err"),
    [
        (">&-", False, 0, "", "begins\n"),
        ("2>&-", False, 0, "caf\xe9 \\x1b[2J", ""),
        (">&- 2>&-", False, 0, "", ""),
        ("<&- >&- 2>&-", True, 0, "", ""),
        ("2>/dev/full", False, 0, "caf\xe9 \\x1b[2J", ""),
        (">/dev/full", True, 0, "", f"begins\nwarning: {_FULL}"),
        (">/dev/full", False, 2, "", f"begins\nerror: {_FULL}"),
        (">/dev/full 2>/dev/full", False, 2, "", ""),
    ],
)
def test_streams_that_take_nothing(streams, outlives, status, out, err, count):
    code = _PRINTS.format(count=count, outlives=outlives)
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {streams}', sys.executable, code],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stderr.decode() == err
    assert done.stdout.decode().rstrip("x\n") == out
    assert done.returncode == status


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "xx_YY.no-such"},
        {"PYTHONIOENCODING": "utf-8"},
    ],
)
def test_a_terminal_that_does_not_have_all_letters(changes):
    code = _PRINTS.format(count=0, outlives=False)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **changes},
    )
    assert (done.returncode, done.stderr) == (0, b"begins\n")
    assert done.stdout in {
        rb"caf\xe9 \x1b[2J" + b"\n",
        b"caf\xe9 \\x1b[2J\n",
        b"caf\xc3\xa9 \\x1b[2J\n",
    }


def test_a_gin_file_that_is_not_there(capsys):
    parser = cli.parser("some.command", None)
    cli.add_gin_arguments(parser)
    found = parser.parse_args(["--gin_file=gin_configs/runs/mnist_cpu.gin"])
    assert found.gin_file == ["gin_configs/runs/mnist_cpu.gin"]
    assert parser.parse_args(["--gin_file=gs://bucket/a.gin"]).gin_file
    with pytest.raises(SystemExit):
        parser.parse_args(["--gin_file=nowhere.gin"])
    said = capsys.readouterr().err
    assert "there is no gin file nowhere.gin; those of the project: gin_conf" in said
    assert f"a relative path is looked up in {os.getcwd()}" in said


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--epochs=5"], "; a setting is --gin_param=MODULE.FUNCTION.epochs=5"),
        (["--epochs", "5"], "; a setting is --gin_param=MODULE.FUNCTION.epochs=5"),
        (
            ["--gin_params"],
            "; nearest: --gin_param; a setting is "
            "--gin_param=MODULE.FUNCTION.gin_params=VALUE",
        ),
        (["--gin-file=x"], "; write --gin_file"),
        (["surplus"], ""),
        (["a.b=1"], "; a setting is --gin_param=a.b=1"),
        (["--gin-param", "a=1"], "; write --gin_param"),
        (["\N{EN DASH}gin_file=x"], "; write --gin_file"),
        (
            ["--lr=1", "--gin-file=x"],
            "; for --lr a setting is --gin_param=MODULE.FUNCTION.lr=1; for --gin-file "
            "write --gin_file",
        ),
    ],
)
def test_a_flag_that_there_is_not(flags, hint, capsys):
    parser = cli.parser("some.command", None)
    cli.add_gin_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(flags)
    said = capsys.readouterr().err
    what = " ".join(flags)
    assert said.endswith(f"error: unrecognized arguments: {what}{hint}\n")


def test_a_flag_that_there_is_not_of_a_command_without_settings(capsys):
    with pytest.raises(SystemExit):
        cli.parser("some.command", None).parse_args(["--epochs=5"])
    said = capsys.readouterr().err
    assert said.endswith("error: unrecognized arguments: --epochs=5\n")


def test_files_on_both_sides_of_a_flag(capsys):
    parser = cli.parser("some.command", None)
    parser.add_argument("--show")
    parser.add_argument("files", nargs="*")
    with pytest.raises(SystemExit):
        parser.parse_args(["a.jpg", "--show=1", "b.jpg", "c.jpg"])
    said = capsys.readouterr().err
    assert said.endswith(
        "unrecognized arguments: b.jpg c.jpg; write them side by side, no flag "
        "between them\n"
    )


def test_a_flag_that_a_subcommand_has_not(capsys):
    """It is the subcommand's own flags that are looked through."""
    parser = cli.parser("some.command", None)
    parser.add_subparsers().add_parser("sub").add_argument("--fraction")
    assert parser.parse_args(["sub", "--fraction=1"]).fraction == "1"
    with pytest.raises(SystemExit):
        parser.parse_args(["sub", "--fracton=1"])
    said = capsys.readouterr().err
    assert said.endswith(
        "some.command sub: error: unrecognized arguments: --fracton=1; nearest: "
        "--fraction\n"
    )


_LEAVING = """
import threading, time
from common import cli

threading.Thread(target=time.sleep, args=(60,)).start()
print("x" * 100_000)
cli.leave(75)
"""


def test_who_leaves_waits_for_no_thread_and_loses_no_line():
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _LEAVING], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, len(done.stdout), done.stderr) == (75, 100_001, b"")
    assert time.monotonic() - start < 50


@pytest.mark.parametrize(
    ("arguments", "workers", "said"),
    [
        ([], 2, ""),
        (["--workers=2"], 2, ""),
        (
            ["--workers=96"],
            96,
            "warning: --workers=96 on 2 cores: more processes take more memory, and no "
            "less time\n",
        ),
    ],
)
def test_workers_beyond_the_cores(monkeypatch, capsys, arguments, workers, said):
    monkeypatch.setattr(cli.os, "sched_getaffinity", lambda _: {3, 5})
    parser = cli.parser("a.command", "")
    cli.add_workers(parser)
    assert parser.parse_args(arguments).workers == workers
    assert capsys.readouterr().err == said


def test_ctrl_c_while_tensorflow_waits_for_a_bucket(capsys):
    def run():
        raise RuntimeError(
            "pybind11::error_already_set: MISMATCH of original and normalized active "
            "exception types: ORIGINAL AbortedError REPLACED BY KeyboardInterrupt: x"
        )

    assert cli.run_command(run) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_command_seldom_searches_for_garbage():
    """From before it imports anything that is slow."""
    found = []
    before = gc.get_threshold()

    @cli.command(lambda: cli.parser("a.b", ""))
    def main(arguments):
        found.append(gc.get_threshold())

    try:
        assert main([]) == Status.OK
    finally:
        gc.set_threshold(*before)
    assert found == [(50_000, 10, 5)]
