"""A host that serves the lives which host 0 begins."""

import math
import time

from common.console import say
from common.errors import Restart, Status
from launch.host.board import JOB, Board
from launch.host.ending import END, FINAL, RUN, Deadlines
from launch.host.programs import Programs
from launch.host.server import Server
from launch.host.stop import Stop
from launch.host.times import Times


class Follower:
    """One of them."""

    def __init__(self, programs: Programs, board: Board, times: Times, stop: Stop):
        """Take up what another process of this host has left.

        Args:
          programs: of this host.
          board: as this host sees it.
          times: see there.
          stop: SIGTERM.
        """
        self._programs, self._board = programs, board
        self._times, self._stop = times, stop
        self._deadlines = Deadlines(programs.job.grace_seconds)
        has_worker = programs.has_worker
        self._server = Server(
            programs.start_worker if has_worker else programs.start_client,
            programs.why_silent if has_worker else lambda: None,
            0 if has_worker else times.end,
            life=board.before_of_these().get("life", 0),
        )

    def run(self) -> int:
        """Serve until the job ends, or this host; return the exit status.

        Raises:
          Restart: the leader, or the board, has been away for too long.
        """
        self._stop.defer(self._hear_stop)
        try:
            while True:
                self._board.sync()
                status = self._heed()
                if status is not None:
                    return status
                time.sleep(self._times.tick)
        finally:
            self._server.end(1.0 if self._stop.requested else math.inf)

    def _hear_stop(self) -> None:
        # A client of GPUs tells the others, and all save. A worker is needed for that.
        if not self._programs.has_worker:
            self._server.terminate()

    def _heed(self) -> int | None:
        """Do what the leader says; return with what to end, if so."""
        last: int | None = self._board.heard_of_any(JOB).get("status")
        if last in FINAL:  # perhaps on other machines
            self._say(f"the job has ended with {last}")
            return last
        job = self._board.heard(JOB)
        # One that stood there from the first is of those before.
        if job.get("want") == END and self._board.has_come(JOB):
            self._say("the job goes on with its next start")
            return job["status"]
        if job.get("want") == RUN and job["life"] != self._server.life:
            if self._stop.requested:
                self._server.pass_over(job["life"])
            else:
                self._say(f"life {job['life']}: starting")
                self._server.serve(job["life"])
        if job:  # until then another slice may live here
            self._board.post(wants_end=self._stop.requested, **self._server.state())
        if self._stop.seconds > self._deadlines.leave:
            self._say("SIGTERM: the leader has not ended the job in time")
            return Status.RESTART
        # It may wait as long for its place, and is then the one to say why it ends.
        patience = self._times.alone * (1 if job else 2)
        if self._board.silent_seconds(JOB) > patience:
            raise Restart(f"no sign of host 0 for {patience:,.0f} s")
        return None

    def _say(self, line: str) -> None:
        say(f"{self._programs.place}: {line}")
