"""SIGTERM, by which an engine takes a host away."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from common.errors import Restart


class Stopped(Restart):
    """It has come while there is nothing to be saved."""


class Stop:
    """Hears SIGTERM from its making on; until `defer` it raises Stopped."""

    def __init__(self):
        self._since: float | None = None
        self._tell: Callable[[], None] | None = None
        signal.signal(signal.SIGTERM, self._hear)

    def defer(self, tell: Callable[[], None]) -> None:
        """Leave it to the caller to end; `tell` is called when SIGTERM comes."""
        self._tell = tell

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Stopped in the block, in which there is nothing to be saved."""
        tell, self._tell = self._tell, None
        try:
            if self.requested:
                raise Stopped("stopped by SIGTERM")
            yield
        finally:
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
        self._since = self._since or time.monotonic()
        if self._tell is None:
            raise Stopped("stopped by SIGTERM")
        self._tell()
