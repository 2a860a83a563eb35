"""How long the hosts of a job wait for what."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds; tests have shorter ones.

    Attributes:
      tick: between two looks at this host's own processes.
      poll: between two looks at the board.
      beat: between two signs of life there.
      write: at least between two writes, as a bucket takes one a second of an object.
      answer: until every host serves a life; or of a silent one to count as lost.
      alone: without the board, or without its leader, after which a host ends.
      end: from SIGTERM to SIGKILL, of a client on GPUs.
      lost: for a client to notice by itself that a host is gone.
      report: of what a host has to say last that SIGTERM takes away.
      backoff: before a life, by how many before it brought no checkpoint.
    """

    tick: float = 0.5
    poll: float = 5.0
    beat: float = 10.0
    write: float = 1.0
    answer: float = 300.0
    alone: float = 600.0
    end: float = 10.0
    lost: float = 60.0
    report: float = 3.0
    backoff: tuple[float, ...] = (5.0, 15.0, 60.0)
