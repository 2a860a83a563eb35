"""How a life ends, and with it the job."""

from common.errors import Status

RUN, END = "run", "end"  # what a leader wants
# Behind these a job ends. All others say that it goes on in a new life: 75, the signals
# (137, 143, 139, 134 ...), and what nobody knows.
FINAL: tuple[int, ...] = (Status.OK, Status.NO, Status.MISTAKE, Status.INTERRUPTED)
_LEAVE_SECONDS = 5.0  # before the engine's SIGKILL
_TELL_SECONDS = 5.0  # ... for the others to hear of the end


class Deadlines:
    """When what has to be over, in seconds from the engine's SIGTERM on.

    Attributes:
      save: the client.
      leave: this host.
    """

    def __init__(self, grace_seconds: float):
        self.leave = max(grace_seconds - _LEAVE_SECONDS, grace_seconds / 2)
        self.save = max(self.leave - _TELL_SECONDS, grace_seconds / 2)
