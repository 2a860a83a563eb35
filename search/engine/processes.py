"""The processes of a search: how they find the project, and how they end.

Standard library.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from common.errors import Restart
from common.project import ROOT

_STOP_SECONDS = 60.0  # from SIGTERM, behind which it saves, to SIGKILL


def environment() -> dict[str, str]:
    """Return this process's, in which the project is found from any folder."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def stop(process: subprocess.Popen[bytes]) -> None:
    """Let a process save and end; kill it where it does not."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the search in order, with 75."""

    def raise_restart(*_: object) -> None:
        raise Restart("stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, raise_restart)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
