"""SIGTERM, which a preemptible machine sends shortly before it goes away.

SIGHUP, which a terminal sends when it goes away, is heard as one.
"""

import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from common.console import say
from common.errors import exit_for_restart

_HEARD = (signal.SIGTERM, signal.SIGHUP)
_REPORT_SECONDS = 2.0  # for a line to standard error


class Preemption:
    """Notices SIGTERM, and ends the process if its context is not left in time.

    Whoever trains looks at `requested` now and then, saves, and raises Restart. A
    second SIGTERM changes nothing.

    Python runs handlers in the main thread between two of its instructions, and one
    call of TensorFlow's may take longer than the deadline. But the part of a handler
    that is C writes the number of the signal to a file descriptor at once. A thread
    reads it here, so that all of this works while the main thread is away.

    MultiWorkerMirroredStrategy and TPU runtimes install handlers of their own as they
    start; `strategies.make_strategy` puts back the one that is installed here.
    """

    def __init__(
        self,
        deadline_seconds: float,
        describe: Callable[[], str] = lambda: f"machine {socket.gethostname()}",
    ):
        """Make what is then entered, once.

        Args:
          deadline_seconds: from SIGTERM to the end of the process.
          describe: tells which process this is and what it does, from any thread.
        """
        self._deadline_seconds = deadline_seconds
        self._describe = describe
        self._is_requested = threading.Event()
        self._is_left = threading.Event()
        self._is_installed = False
        self._old_handlers: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether SIGTERM, or SIGHUP, has come."""
        return self._is_requested.is_set()

    def __enter__(self) -> Self:
        # Python lets no other thread handle signals: in one, as a notebook's may be,
        # SIGTERM stays what it is.
        if threading.current_thread() is threading.main_thread():
            self._install()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_installed:
            return
        self._restore()
        self._is_left.set()
        # Not close(): a child's copy would keep the other end waiting.
        self._writer.shutdown(socket.SHUT_WR)
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _install(self) -> None:
        _let_interrupts_through()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._old_descriptor = signal.set_wakeup_fd(
            self._writer.fileno(), warn_on_full_buffer=False
        )
        for number in _HEARD:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._old_handlers[number] = signal.signal(number, lambda *_: None)
            # What TensorFlow writes to a network's disk just then must not fail with
            # EINTR.
            signal.siginterrupt(number, False)
        self._is_installed = True
        # A SIGTERM for a forked child would be heard here, and the child live on.
        os.register_at_fork(after_in_child=self._restore)

    def _restore(self) -> None:
        """Put back what was there; a handler not of Python's making it cannot."""
        if self._is_installed:
            self._is_installed = False
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
            signal.set_wakeup_fd(self._old_descriptor)

    def _watch(self) -> None:
        """Wait for SIGTERM, then for the end of the context or of the process."""
        number = None
        while number not in _HEARD:  # Ctrl-C comes here as well
            received = self._reader.recv(1)
            if not received:
                return
            number = received[0]
        self._is_requested.set()
        name = signal.Signals(number).name
        line = f"{name}: saving, then stopping (deadline {self._deadline_seconds:g} s)"
        # By itself: standard error may be a pipe that nobody reads any more.
        reporter = threading.Thread(target=say, args=(line,), daemon=True)
        reporter.start()
        if not self._is_left.wait(self._deadline_seconds):
            exit_for_restart(lambda: self._say_too_late(name), seconds=_REPORT_SECONDS)
        reporter.join(_REPORT_SECONDS)  # a short run must not end before its line

    def _say_too_late(self, name: str) -> None:
        say(
            f"{name}: not stopped within {self._deadline_seconds:g} s. "
            f"{self._describe()}. The steps since the last checkpoint are lost; the "
            "same command goes on from there"
        )


def _let_interrupts_through() -> None:
    """See that Ctrl-C ends the run, whenever it comes.

    Python drops what is raised in a callback of its garbage collector, Ctrl-C too. jax,
    which TensorFlow imports, has such a one, to free arrays of its own: there are none.
    """
    gc.callbacks[:] = [
        callback
        for callback in gc.callbacks
        if not str(getattr(callback, "__module__", "")).startswith("jax.")
    ]
