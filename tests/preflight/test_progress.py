"""The line of progress, on a terminal and in a log."""

import concurrent.futures
import io
import sys

import pytest

from preflight import progress
from preflight.progress import Progress
from tpu_compiler import CompilerError
from tpu_compiler.history import History

SLICE = "8 replicas of v3:2x2"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def lines(self):
        """All that the line said, one after the other."""
        return self.getvalue().split("\r\x1b[K")[1:]


def on_a_terminal(monkeypatch):
    """Begin with a terminal; pytest replaces what a fixture puts there."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path)
    history.note("training", 125)
    return history


def running():
    answer = concurrent.futures.Future()
    answer.set_running_or_notify_cancel()
    return answer


def test_in_a_log_each_compilation_is_said_once(history, capsys):
    seen = Progress(history)
    known = concurrent.futures.Future()
    known.set_result("report")
    seen.lowering("the train step")
    seen.compiling("the train step", "training", SLICE, running())
    seen.lowering("the evaluation step")
    seen.compiling("the evaluation step", "evaluation", SLICE, running())
    seen.compiling("another step", "training", SLICE, known)
    assert seen.wait(known) == "report"
    assert capsys.readouterr().err.splitlines() == [
        "lowering the train step",
        f"compiling the train step for {SLICE}: 2:05 the last time",
        "lowering the evaluation step",
        f"compiling the evaluation step for {SLICE}: minutes, mostly",
    ]


def test_on_a_terminal_one_line_has_all_that_is_compiled(history, monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    now = [0.0]
    training, evaluation = running(), running()
    waiting = concurrent.futures.Future()  # until a process is free
    seen = Progress(history, lambda: now[0])
    seen.compiling("the train step", "training", SLICE, training)
    now[0] = 61.0
    seen.lowering("the evaluation step")
    seen.compiling("the evaluation step", "evaluation", SLICE, evaluation)
    seen.compiling("another step", "evaluation", SLICE, waiting)

    really_wait = concurrent.futures.wait

    def wait(futures, timeout):
        """Stand in for seconds that nobody waits."""
        assert timeout == 1.0
        now[0] += 2.0
        if now[0] == 65:
            evaluation.set_result("scores")
        if now[0] == 67:
            training.set_result("gradients")
        return really_wait(futures, 0)

    monkeypatch.setattr(progress.concurrent.futures, "wait", wait)
    assert seen.wait(training) == "gradients"
    assert terminal.lines == [
        "compiling the train step 0:00 of about 2:05",
        "lowering the evaluation step; compiling the train step 1:01 of about 2:05",
        *["compiling the train step 1:01 of about 2:05, the evaluation step 0:00"] * 2,
        "compiling the train step 1:03 of about 2:05, the evaluation step 0:02",
        "compiling the train step 1:05 of about 2:05",
        "",
    ]


def test_an_error_leaves_an_empty_line(history, monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    answer = running()
    answer.set_exception(CompilerError("it has died"))
    with pytest.raises(CompilerError, match="it has died"):
        Progress(history).wait(answer)
    assert terminal.lines == [""]
