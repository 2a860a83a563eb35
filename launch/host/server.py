"""What this host does for a life that the leader has begun."""

import math
from collections.abc import Callable
from typing import Any

from launch.host.child import Child

STARTS, SERVES, ENDED = "starts", "serves", "ended"


class Server:
    """One process a life: a worker for the client of a slice, or a client on GPUs.

    Attributes:
      life: that it serves, or has served; 0 before the first.
    """

    def __init__(
        self,
        start: Callable[[], Child],
        why_silent: Callable[[], str | None],
        end_seconds: float = 0,
        life: int = 0,
    ):
        """Start nothing yet.

        Args:
          start: starts the process.
          why_silent: tells why one that runs does not answer; None if it does.
          end_seconds: from SIGTERM to SIGKILL; a worker has nothing to save.
          life: that another process of this host has served, which has ended with it.
        """
        self.life = life
        self._start, self._why_silent = start, why_silent
        self._end_seconds = end_seconds
        self._child: Child | None = None
        self._answers = False

    def serve(self, life: int) -> None:
        """Serve a life, by a new process."""
        self.end()
        self._child, self._answers, self.life = self._start(), False, life

    def pass_over(self, life: int) -> None:
        """Count a life as served and ended, without a process."""
        self.end()
        self._child, self.life = None, life

    def state(self) -> dict[str, Any]:
        """Return what others have to know: the life, how it stands, how it ended."""
        status = self._child.status if self._child else None
        if self._child is None or status is not None:
            return {"life": self.life, "state": ENDED, "status": status}
        # Once is enough: of one that does not answer later the client hears first.
        self._answers = self._answers or self._why_silent() is None
        state = SERVES if self._answers else STARTS
        return {"life": self.life, "state": state, "status": None}

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._child:
            self._child.terminate()

    def end(self, most_seconds: float = math.inf) -> None:
        """End the process, if there is one."""
        if self._child:
            self._child.end(min(self._end_seconds, most_seconds))
