"""SIGTERM, by which an engine takes a host away."""

import signal
import time
from collections.abc import Callable

from common.errors import Restart


class Stop:
    """Hears SIGTERM from its making on; until `defer` it ends the process with 75."""

    def __init__(self):
        self._since: float | None = None
        self._tell: Callable[[], None] | None = None
        signal.signal(signal.SIGTERM, self._hear)

    def defer(self, tell: Callable[[], None]) -> None:
        """Leave it to the caller to end; `tell` is called when SIGTERM comes."""
        self._tell = tell

    @property
    def requested(self) -> bool:
        """Whether it has come."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Since it has come; 0 before."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def _hear(self, *_: object) -> None:
        if self._tell is None:
            raise Restart("stopped by SIGTERM")
        self._since = self._since or time.monotonic()
        self._tell()
