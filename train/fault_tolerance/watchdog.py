"""Tells a process that hangs from one that works, and ends it."""

import faulthandler
import functools
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from common import gfiles, storage_errors
from common.console import say, warn
from common.errors import Restart, UserError, exit_for_restart, first_line
from train.fault_tolerance import heartbeat
from train.fault_tolerance.heartbeat import Heartbeat, State

_REPORT_SECONDS = 30.0  # for the heartbeats of all, whose disk may be far away
_OBJECT_SECONDS = 1.1
_GONE_SECONDS = 20.0
_GONE_TIMES = 3  # a call may be refused once by a machine that is busy
_STDERR = 2
_NAME = "watchdog"  # of threads that a report leaves out


class _Phase(NamedTuple):
    name: str
    step: int | None
    timeout_seconds: float
    began: float  # by the monotonic clock

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Watchdog:
    """Posts what this process does, and ends it when it does the same for too long.

    Every process of a run posts <directory>/hosts/host-<number>.json (see
    `heartbeat.Heartbeat`) every ten seconds, from a thread of its own: an old file is a
    dead process, a new one with an old phase a process that waits. Another thread
    watches the phase. When it is too old, the process says which one it is, what it
    does, which of all it may be waiting for and where its threads are, and ends with
    RESTART.

    A process that was suspended for so long, as by Ctrl-Z, counts as one that hangs.
    """

    def __init__(
        self,
        directory: str,
        *,
        process: int,
        processes: int,
        timeout_seconds: float | None,
        posts: bool = True,
        others: Callable[[], str] = lambda: "",
        gone: Callable[[], str] = lambda: "",
        gone_seconds: float = _GONE_SECONDS,
        poll_seconds: float = 1.0,
        exit: Callable[[int], object] = os._exit,
    ):
        """Make what is then entered, once.

        Args:
          directory: of the run, the same for all processes; local or gs://.
          process: number of this one, from 0.
          processes: how many there are.
          timeout_seconds: longest time between two calls of `phase`; None only posts.
          posts: from the start; False where it is not known yet whether the directory
            is the run's: `start_posting` follows.
          others: says which others, that do not post, this process waits for; it is
            called when it hangs.
          gone: says which others are there no more, "" for none; TensorFlow may wait
            for those for ever. Three times in a row, and this process ends.
          gone_seconds: between two such questions.
          poll_seconds: between two looks at the phase.
          exit: ends the process.
        """
        self._directory = directory
        self._process = process
        self._processes = processes
        self._hostname = socket.gethostname()
        self._timeout_seconds = math.inf if timeout_seconds is None else timeout_seconds
        self._poll_seconds = poll_seconds
        self._posts = posts
        self._others = others
        self._gone = gone
        self._gone_seconds = gone_seconds
        self._exit = exit
        self._state: State = "running"
        self._error: str | None = None
        self._has_folder = False
        self._has_warned = False
        self._posted = -math.inf  # the last time, by the monotonic clock
        self._is_left = threading.Event()
        # Two threads: a disk that does not answer must not stop the watching.
        self._poster, self._watcher = (
            threading.Thread(target=work, name=_NAME, daemon=True)
            for work in (self._post_until_left, self._watch_until_left)
        )
        self.phase("starting")

    def phase(
        self, name: str, step: int | None = None, *, timeout_factor: float = 1.0
    ) -> None:
        """Begin a phase, or say that it gets on: the time starts from 0.

        Args:
          name: what this process does now, as in "evaluation at step 200".
          step: updates so far.
          timeout_factor: for what takes long by itself.
        """
        timeout_seconds = self._timeout_seconds * timeout_factor
        self._phase = _Phase(name, step, timeout_seconds, time.monotonic())

    def describe(self) -> str:
        """Return which process this is and what it does; for any thread."""
        phase = self._phase
        return (
            f"process {self._process} of {self._processes} ({self._hostname}): "
            f"{phase.name}, for {phase.seconds:,.0f} s"
        )

    def start_posting(self) -> None:
        """Post from now on, if it does not yet; in the context."""
        if self._poster.ident is None:
            self._poster.start()

    def __enter__(self) -> Self:
        if self._posts:
            self.start_posting()
        if self._timeout_seconds < math.inf:
            faulthandler.register(signal.SIGALRM, _STDERR, chain=True)
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._state, self._error = _ending(error)
        self._is_left.set()
        if self._timeout_seconds < math.inf:
            self._watcher.join()
            _end_by_alarm(after_seconds=0)
            faulthandler.unregister(signal.SIGALRM)
        # Its disk may not answer, and the run is over without its last words.
        if self._poster.ident is not None:
            self._poster.join(_REPORT_SECONDS)

    def _post_until_left(self) -> None:
        self._post()
        while not self._is_left.wait(heartbeat.INTERVAL_SECONDS):
            self._post()
        if storage_errors.is_remote(self._directory):
            # A bucket takes an object once a second, and refuses it before.
            time.sleep(max(0.0, self._posted + _OBJECT_SECONDS - time.monotonic()))
        self._post()

    def _post(self) -> None:
        """Post a heartbeat; the first that cannot be written is worth a warning."""
        try:
            if not self._has_folder:
                gfiles.make_folder(heartbeat.folder(self._directory))
            self._has_folder = True
            heartbeat.write(self._directory, self._heartbeat())
        except (UserError, Restart) as error:
            self._has_folder = False
            if not self._has_warned:
                warn(f"the run goes on without heartbeats: {error}")
            self._has_warned = True

        self._posted = time.monotonic()

    def _heartbeat(self) -> Heartbeat:
        phase = self._phase
        return Heartbeat(
            host=self._process,
            hostname=self._hostname,
            pid=os.getpid(),
            phase=phase.name,
            step=phase.step,
            phase_seconds=round(phase.seconds, 3),
            time=time.time(),
            state=self._state,
            error=self._error,
        )

    def _watch_until_left(self) -> None:
        asked, times, missing = time.monotonic(), 0, ""
        while not self._is_left.wait(self._poll_seconds):
            timeout_seconds = self._phase.timeout_seconds
            # Should this thread not get to run: long after it would have done the same.
            _end_by_alarm(after_seconds=timeout_seconds + 2 * _REPORT_SECONDS)
            if time.monotonic() - asked >= self._gone_seconds:
                missing, asked = self._gone(), time.monotonic()
                times = times + 1 if missing else 0
            if times == _GONE_TIMES:
                self._end(functools.partial(self._report_gone, missing))
                return
            if self._phase.seconds > timeout_seconds:
                self._end(self._report)
                return

    def _end(self, report: Callable[[], None]) -> None:
        exit_for_restart(report, seconds=_REPORT_SECONDS, exit=self._exit)

    def _report_gone(self, missing: str) -> None:
        """Say who is gone; where the threads are is of no interest then."""
        say(
            f"watchdog: {missing} is gone, and {self.describe()}. This process ends; "
            "the same command goes on from the last checkpoint"
        )
        self._state = "stopped"
        if self._poster.ident is not None:
            self._post()

    def _report(self) -> None:
        """Say all that may help to find why this process hangs."""
        phase = self._phase
        since = time.localtime(time.time() - phase.seconds)
        say(
            f"watchdog: {self.describe()}, since {time.strftime('%F %T', since)}; the "
            f"timeout is {phase.timeout_seconds:,.0f} s "
            "(Experiment.hang_timeout_minutes). This process ends; the same command "
            "goes on from the last checkpoint"
        )
        # What does not depend on any disk comes first.
        say(_stacks())
        if self._processes > 1:
            self._report_processes()
        if line := self._others():
            say(line)
        self._state = "hung"
        if self._poster.ident is not None:
            self._post()

    def _report_processes(self) -> None:
        beats = [
            self._heartbeat()
            if process == self._process
            else heartbeat.read(self._directory, process)
            for process in range(self._processes)
        ]
        now = time.time()
        say(heartbeat.table(beats, now))
        say(heartbeat.suspects(beats, now))


def _ending(error: BaseException | None) -> tuple[State, str | None]:
    """Return what a heartbeat says of a context that is left, and the error."""
    if error is None:
        return "finished", None
    if isinstance(error, (Restart, KeyboardInterrupt)):
        return "stopped", None
    kind, line = type(error).__name__, first_line(error)
    return "failed", kind if line == kind else f"{kind}: {line}"


def _end_by_alarm(*, after_seconds: float) -> None:
    """Have the kernel end this process unless this is called again; 0 for never.

    The last resort. A native call that hangs and does not release the interpreter's
    lock stops every thread of Python's. The kernel's timer needs no lock, nor does
    faulthandler, which on SIGALRM writes the stacks and lets the signal do its work.
    (faulthandler.dump_traceback_later would exit with status 1: an answer.)
    """
    signal.setitimer(signal.ITIMER_REAL, after_seconds)


def _stacks() -> str:
    """Return where Python's threads are.

    Not by faulthandler: it writes without releasing the interpreter's lock, and if
    standard error is a pipe that nobody reads, nothing could end this process.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = {_NAME, threading.current_thread().name}
    lines = []
    # The main one comes last. Those of TensorFlow's that run Python have no name.
    for thread, frame in sys._current_frames().items():
        if (name := names.get(thread, str(thread))) not in own:
            lines += [f"thread {name}:\n", *traceback.format_stack(frame)]
    return "".join(lines).rstrip()
