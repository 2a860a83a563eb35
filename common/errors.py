"""How a run ends when it does not finish, and what its exit status says.

0: finished. 1: a mistake that a person has to mend. 75: run the same command again, and
it goes on from the last checkpoint. 130: Ctrl-C. A supervisor should also run the
command again when a signal ended the process, as the kernel's SIGKILL for want of
memory or the watchdog's SIGALRM.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

RESTART = 75  # EX_TEMPFAIL of sysexits.h


class UserError(Exception):
    """One line for a person: what is wrong, where, and how to mend it."""


class Restart(Exception):  # noqa: N818 - nothing is wrong
    """One line for a person: why the run stops here and is to be started again."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Prints as one line why a run ends, and exits with the status that says so."""
    try:
        yield
    except UserError as error:
        _end_live_line()
        # gin adds lines about the call that it made.
        sys.exit(f"error: {str(error).splitlines()[0]}")
    except Restart as reason:
        _end_live_line()
        line = str(reason).splitlines()[0]
        print(f"{line}; the same command goes on", file=sys.stderr)
        sys.exit(RESTART)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it can", file=sys.stderr)
        sys.exit(130)


def give_up(
    report: Callable[[], None],
    *,
    seconds: float,
    exit: Callable[[int], object] = os._exit,
) -> None:
    """Ends the process with RESTART, from any thread and whatever the main one does.

    Args:
      report: says why. It may hang on what the process hangs on: a pipe that nobody
        reads, a disk that does not answer.
      seconds: after which the process ends without the rest of the report.
      exit: ends the process without its cleaning up, which could wait for ever too.
    """
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    reporter.join(seconds)
    exit(RESTART)


def _end_live_line() -> None:
    if sys.stderr.isatty():  # a line of progress may stand there
        sys.stderr.write("\n")
