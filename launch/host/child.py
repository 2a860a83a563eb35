"""A worker or a client, from its start to the end of all that it has started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TIED = Path(__file__).with_name("tied.py")
_KILLED_SECONDS = 10.0  # for the kernel to take back what a process had


class Child:
    """A process in a group of its own, which ends with this one.

    What it prints goes where this process' own lines go, untouched.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        """Start it.

        Args:
          command: as a list; no shell reads it.
          environment: that it has besides this process' own.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-IS", str(_TIED), str(os.getpid()), *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def status(self) -> int | None:
        """How it has ended, as a shell says it: 137 of SIGKILL; None if it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def terminate(self) -> None:
        """Ask it to end: SIGTERM. A signal's handler may call this."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, seconds: float) -> None:
        """Ask it to end, and kill it after so many seconds."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_SECONDS)
