"""The commands that a search consists of, each in a process of its own.

A command that was stopped goes on when it is given again: so a stage of a search is a
command, and whatever ends it costs what was not saved. What it prints goes to a log;
who waits for it sees a line now and then.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import claims, console
from common.errors import Restart, Status, UserError
from search.engine import processes

_RUNNER = "search.engine.with_parent"
_TRIES = 3  # for a command that was stopped or killed, and not by us
_FREE_SECONDS = 90.0  # until a folder counts as somebody else's
_POLL_SECONDS = 0.2
_LINE_SECONDS = 10.0
_TAIL = 4096  # bytes of the log that may hold the reason

# What to tell of a command that is at work; "" is nothing.
Describe = Callable[[], str]


def run(
    arguments: Sequence[str],
    log: Path,
    *,
    what: str,
    describe: Describe = lambda: "",
    may_say_no: bool = False,
) -> str:
    """Run a command to its end, again where it was killed or asks for that.

    Args:
      arguments: the module, and what stands behind it.
      log: file for what it says; it is added to.
      what: it is, for messages.
      describe: said now and then.
      may_say_no: whether Status.NO is an answer, too: it has done what it was asked
        for, and nothing was found.

    Returns:
      The last line that it printed, "" where there is none.

    Raises:
      UserError: it has ended with a mistake, or in a way that none of ours ends; the
        log says more.
      Restart: it was stopped again and again, or interrupted by somebody.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    status = start = 0
    for _ in range(_TRIES):
        start = log.stat().st_size if log.exists() else 0
        status, printed = _once(arguments, log, describe)
        if status == Status.OK or (may_say_no and status == Status.NO):
            return printed
        if status > 0 and status != Status.RESTART:
            raise _ended(status, what, _why(log, start))
        name = "asks for it" if status > 0 else f"was killed by signal {-status}"
        console.say(f"{what} {name}; it starts again")
    if status == Status.RESTART:
        raise Restart(f"{what}: {_why(log, start)}")
    name = signal.Signals(-status).name
    why = ", perhaps for want of memory" * (name == "SIGKILL")
    raise UserError(f"{what} was killed {_TRIES} times by {name}{why}; see {log}")


def wait_until_free(folder: Path) -> None:
    """Wait for a command that was left behind: it is about to save and end.

    Raises:
      claims.Held: it does not end, so that it is somebody's.
    """
    until = time.monotonic() + _FREE_SECONDS
    while folder.is_dir():
        try:
            with claims.hold(str(folder), "a search"):
                return
        except claims.Held:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return a command as a person gives it."""
    return ["python", "-m", *arguments]


def _once(arguments: Sequence[str], log: Path, describe: Describe) -> tuple[int, str]:
    """Return the exit status of one process, and the last line of its output."""
    output = log.with_suffix(".out")
    with log.open("ab") as said, output.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", _RUNNER, *arguments],
            env=processes.environment(),
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=said,
            # Ctrl-C reaches the search alone, which then stops its command.
            start_new_session=True,
        )
    try:
        _watch(process, describe)
    finally:
        processes.stop(process)
    lines = output.read_text(errors="replace").splitlines()
    return process.returncode, lines[-1] if lines else ""


def _ended(status: int, what: str, why: str) -> Exception:
    """Return what to raise of a command that is not to be started again."""
    if status == Status.MISTAKE:
        return UserError(f"{what}: {why}")
    if status == Status.INTERRUPTED:  # not by our Ctrl-C, which does not reach it
        return Restart(f"{what} was interrupted: {why}")
    # As Python ends with 1 before a command has begun.
    return UserError(f"{what} has ended with status {status}: {why}")


def _watch(process: subprocess.Popen[bytes], describe: Describe) -> None:
    """Wait for a process, and say a line now and then."""
    said = time.monotonic()
    has_said = False
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - said < _LINE_SECONDS:
            continue
        said = time.monotonic()
        if line := describe():
            console.say(f"  {console.escaped(line)}", stays=False)
            has_said = True
    if has_said:
        console.end_live_line()


def _why(log: Path, start: int) -> str:
    """Return the last line that a process has said behind a place of its log."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _TAIL))
        text = file.read().decode("utf-8", "replace")
    said = [line.strip() for line in text.splitlines() if line.strip()]
    last = said[-1].removeprefix("error: ") if said else "it said nothing"
    return f"{console.escaped(last)} (see {log})"
