"""The commands of a search: again where they were killed, and no orphans."""

import re
import subprocess
import sys
import time

import pytest

from common import claims
from common.errors import Restart, UserError
from search.stages import children
from tests.support.holding import holding_process

# What a command does, as code; `tries` counts the lives before this one.
PROGRAM = """
import os, signal, sys, time
marks = os.path.join(os.path.dirname(__file__), "tries")
tries = os.path.getsize(marks) if os.path.exists(marks) else 0
open(marks, "a").write("x")
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Make a module of code; return what runs it, and its log."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "logs" / "toy.log"

    def make(code):
        (tmp_path / "toy_command.py").write_text(PROGRAM + code)
        return lambda **more: children.run(
            ["toy_command", "--x"], log, what="the toy", **more
        )

    return make


def tries(tmp_path):
    return len((tmp_path / "tries").read_text())


def test_the_last_line_is_returned_and_all_is_logged(command, tmp_path):
    run = command("print('one'); print(sys.argv[1]); print('said', file=sys.stderr)")
    assert run() == "--x"
    assert (tmp_path / "logs" / "toy.log").read_text() == "said\n"


def test_a_command_that_was_killed_goes_on(command, tmp_path):
    run = command("tries < 2 and os.kill(os.getpid(), 9)\nprint('done')")
    assert run() == "done"
    assert tries(tmp_path) == 3


def test_a_command_that_asks_for_it_starts_again(command, tmp_path):
    assert command("sys.exit(75 if tries < 1 else 0)")() == ""
    assert tries(tmp_path) == 2


def test_a_command_that_is_killed_every_time(command, tmp_path):
    with pytest.raises(UserError, match="the toy was killed 3 times by SIGKILL, perh"):
        command("os.kill(os.getpid(), 9)")()
    assert tries(tmp_path) == 3


def test_a_command_that_is_stopped_every_time(command):
    run = command("print('stopped by SIGTERM', file=sys.stderr); sys.exit(75)")
    with pytest.raises(Restart, match=r"the toy: stopped by SIGTERM \(see .*toy\.log"):
        run()


def test_a_mistake_is_no_reason_to_start_again(command, tmp_path):
    run = command("print('error: no data', file=sys.stderr); sys.exit(2)")
    with pytest.raises(UserError, match=r"^the toy: no data \(see "):
        run()
    assert tries(tmp_path) == 1


def test_no_is_an_answer_of_who_was_asked(command, tmp_path):
    """As of search.blocks, where no network has a value."""
    run = command("print('none'); print('said last', file=sys.stderr); sys.exit(1)")
    assert run(may_say_no=True) == "none"
    # Of any other command it is none of ours, and no mistake of the user's.
    with pytest.raises(UserError, match="the toy has ended with status 1: said last"):
        run()
    assert tries(tmp_path) == 2


def test_a_command_that_somebody_has_interrupted(command, tmp_path):
    run = command("print('stopped', file=sys.stderr); sys.exit(130)")
    with pytest.raises(Restart, match=r"the toy was interrupted: stopped \(see "):
        run()
    assert tries(tmp_path) == 1


def test_what_a_life_before_has_said_is_not_blamed(command, tmp_path):
    command("print('error: old', file=sys.stderr); sys.exit(tries and 2)")()
    with pytest.raises(UserError, match="the toy: it said nothing"):
        command("sys.exit(2)")()


def test_a_command_ends_with_who_has_started_it(command, tmp_path):
    """As by kill -9, which nothing can be done about in the process itself."""
    command(
        "signal.signal(15, lambda *_: (open(marks + '.saved', 'w'), sys.exit(75)))\n"
        "open(marks + '.ready', 'w').write(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    code = (
        "from pathlib import Path; from search.stages import children\n"
        f"children.run(['toy_command'], Path({str(tmp_path / 'log')!r}), what='toy')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(tmp_path / "tries.ready")
        parent.kill()
        parent.wait()
        wait_for(tmp_path / "tries.saved")
    finally:
        parent.kill()
        parent.wait()


def wait_for(path):
    until = time.monotonic() + 60
    while not (path.exists() and (path.stat().st_size or "saved" in path.name)):
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


def test_ctrl_c_stops_the_command_first(command, tmp_path, monkeypatch):
    run = command(
        "signal.signal(15, lambda *_: (open(marks + '.saved', 'w'), sys.exit(75)))\n"
        "open(marks + '.ready', 'w').write('1')\n"
        "time.sleep(60)"
    )
    real = children.time.sleep

    def sleep(seconds):
        if (ready := tmp_path / "tries.ready").exists():
            ready.unlink()
            raise KeyboardInterrupt
        real(seconds)

    monkeypatch.setattr(children.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert (tmp_path / "tries.saved").exists()


@pytest.mark.long
def test_a_folder_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "_FREE_SECONDS", 0.3)
    children.wait_until_free(tmp_path / "none")
    children.wait_until_free(tmp_path)
    with holding_process(str(tmp_path)) as holder:
        with pytest.raises(claims.Held, match=re.escape(str(tmp_path))):
            children.wait_until_free(tmp_path)
        holder.communicate()
    children.wait_until_free(tmp_path)
