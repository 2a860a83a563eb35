"""What ends a command, and the exit status that tells a supervisor so.

Every room's own error is a `UserError`. A supervisor runs the command again on 75, and
should do so, too, when a signal ended the process, as the kernel's SIGKILL for want of
memory or the watchdog's SIGALRM.
"""

import os
import re
import threading
from collections.abc import Callable
from enum import IntEnum

# What TensorFlow adds to a message of where in its graphs it was raised.
_NODES = re.compile(r"\{\{(?:\w+_)?node [^}]*\}\} ?| ?\[Op:\w+\](?: name:)?")
# ... and of how many it was told, before the first of them.
_COUNT = re.compile(r"\d+ root error\(s\) found\.\s+\(0\) ")


class Status(IntEnum):
    """The exit statuses of every command.

    Attributes:
      OK: done, or yes.
      NO: what was asked was answered, and the answer is no: data are not sound, a step
        does not fit, a network does not compile.
      MISTAKE: a mistake that a person has to mend, or a tool, file or device that is
        not there, said in one line. With a traceback: a bug of this project.
      RESTART: the run stopped and can go on: run the same command again.
      INTERRUPTED: Ctrl-C.
    """

    OK = 0
    NO = 1
    MISTAKE = 2
    RESTART = 75  # EX_TEMPFAIL of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as a shell says it


class UserError(Exception):
    """One line for a person: what is wrong, where, and how to mend it."""


class Restart(Exception):  # noqa: N818 - nothing is wrong
    """One line for a person: why the run stops here and is to be started again."""


def first_line(error: BaseException) -> str:
    """Return the line of an error that a person reads; its type where it has none."""
    text = str(getattr(error, "message", None) or error)
    text = _COUNT.sub("", _NODES.sub("", text)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def one_line(error: BaseException) -> str:
    """Return all lines of an error as one; a bucket says only in a later one why."""
    text = _NODES.sub("", str(getattr(error, "message", None) or error))
    return " ".join(text.split()) or type(error).__name__


def exit_for_restart(
    report: Callable[[], None],
    *,
    seconds: float,
    exit: Callable[[int], object] = os._exit,
) -> None:
    """End the process with RESTART, from any thread and whatever the main one does.

    Args:
      report: says why. It may hang on what the process hangs on: a pipe that nobody
        reads, a disk that does not answer.
      seconds: after which the process ends without the rest of the report.
      exit: ends the process without its cleaning up, which could wait for ever too.
    """
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    reporter.join(seconds)
    exit(Status.RESTART)
