"""Host 0, which begins lives, runs the client in each, and says when the job ends."""

import math
import time

from common import claims
from common.console import count, escaped, say
from common.errors import Restart, Status, UserError
from launch.host import progress
from launch.host.board import NEXT, Board
from launch.host.child import Child
from launch.host.ending import END, FINAL, RUN, Deadlines
from launch.host.others import Others, listed
from launch.host.programs import Programs
from launch.host.server import ENDED, SERVES, Server
from launch.host.stop import Stop
from launch.host.times import Times


class Leader:
    """One of a job, while it holds the board."""

    def __init__(self, programs: Programs, board: Board, times: Times, stop: Stop):
        """Take up what the last leader has left.

        Args:
          programs: of this host.
          board: as this host sees it.
          times: see there.
          stop: SIGTERM.
        """
        self._programs, self._job = programs, programs.job
        self._board, self._times, self._stop = board, times, stop
        self._others = Others(
            board, self._job.hosts - 1, may_end=not programs.has_worker
        )
        self._deadlines = Deadlines(self._job.grace_seconds)
        self._server = Server(programs.start_worker, programs.why_silent)
        self._client: Child | None = None
        self._lost_at: float | None = None
        self._missing: str | None = None  # which hosts, for good

        self._life = board.before.get("life", 0)
        self._is_ours = board.before.get("submission") == self._job.submission
        before = board.before if self._is_ours else {}
        self._first_start = before.get("first_start", time.time())
        self._step = before.get("step", -1)
        self._fruitless = before.get("fruitless", 0)
        self._wanted = before.get("want")  # by whoever led

    def run(self) -> int:
        """Live until the job ends; return the exit status of all hosts.

        Raises:
          UserError: the folder of the run may not be read.
          Restart: the board is away, or another process leads.
        """
        status: int | None = self._board.before.get("status")
        if self._is_ours and status in FINAL:
            self._say(f"this submission has ended with {status} before")
            return status
        self._stop.defer(self._hear_stop)
        try:
            if self._wanted == RUN:  # ... and did not come to an end
                self._count_progress()
            status = self._why_end(Status.RESTART)
            while status is None:
                ended = self._live()
                status = self._why_end(ended)
                if status is None:
                    self._back_off(ended)
                    status = self._why_end(Status.RESTART)
            self._end_all(status)
            return status
        except UserError:
            self._end_all(Status.MISTAKE)
            raise
        finally:
            if self._client:
                self._client.end(self._deadlines.save)
            self._server.end()

    def _hear_stop(self) -> None:
        if self._client:  # it saves, through the workers
            self._client.terminate()

    def _live(self) -> int:
        """Live once; return with what the life has ended."""
        self._life += 1
        self._lost_at = None
        self._post(RUN)
        self._board.sync(now=True)
        if self._programs.has_worker:
            self._server.serve(self._life)
        is_ready = self._are_ready() and self._is_free()
        status = self._run_client() if is_ready else Status.RESTART
        if self._why_leave():
            return status
        self._count_progress()
        return self._status_of_all(status)

    def _are_ready(self) -> bool:
        """Wait until every host serves this life; False where one does not."""
        until = time.monotonic() + self._times.answer
        while late := self._late():
            if self._why_leave() or self._lost():
                return False
            if time.monotonic() > until:
                seconds = f"{self._times.answer:,.0f} s"
                self._missing = f"{listed(late, 'does')} not serve within {seconds}"
                return False
            self._tick()
        return True

    def _late(self) -> list[int]:
        late = self._others.late(self._life)
        own = not self._programs.has_worker or self._server.state()["state"] == SERVES
        # Nor may a client run before it stands there that this host leads.
        return late if own and self._board.is_posted else [0, *late]

    def _is_free(self) -> bool:
        """Wait until no other client has the run, as that of a host 0 that hangs.

        It would refuse ours, whose end would be that of the job.
        """
        until, why = time.monotonic() + self._times.alone, ""
        while found := self._why_held():
            if time.monotonic() > until:
                self._missing = "another client has the run"
            if self._why_leave():
                return False
            if found != why:
                self._say(f"waiting for the run: {found}")
            why = found
            self._wait(self._times.poll)
        return True

    def _why_held(self) -> str:
        try:
            with self._stop.at_once(), claims.hold(self._job.model_dir, "a job"):
                return ""
        except (claims.Held, Restart) as why:  # or the bucket does not tell now
            return str(why)

    def _run_client(self) -> int:
        """Run the client to its end; return how it has ended."""
        hosts = count(self._job.hosts, "host")
        what = f"workers on {hosts}" if self._programs.has_worker else hosts
        self._say(f"life {self._life}: {what}")
        self._client = client = self._programs.start_client()
        until = math.inf
        while (status := client.status) is None:
            if until == math.inf and (why := self._why_stop_client()):
                self._say(f"{why}: the client is to save and end")
                client.terminate()
                # Of which some are over, where the bucket has kept us from hearing it.
                left = self._deadlines.save - self._stop.seconds
                until = time.monotonic() + left
            if time.monotonic() > until:
                client.kill()
            self._tick()
        client.kill()  # what it has started
        self._client = None
        return status

    def _why_stop_client(self) -> str | None:
        if why := self._why_leave():
            return why
        if self._is_budget_spent():
            return f"the budget of {self._job.budget_hours:g} h is spent"
        if silent := self._others.silent(self._times.answer):
            seconds = f"{self._times.answer:,.0f} s"
            return f"{listed(silent, 'has')} given no sign of life for {seconds}"
        lost = self._lost()
        if lost and self._lost_at is None:
            self._lost_at = time.monotonic()
            self._say(f"{listed(lost, 'has')} lost what the client needs")
        if lost and time.monotonic() - (self._lost_at or 0) > self._times.lost:
            return f"it has not noticed within {self._times.lost:g} s"
        return None

    def _lost(self) -> list[int]:
        """Return the hosts whose process has ended under the client."""
        ended = self._others.ended(self._life)
        if not self._programs.has_worker:  # theirs may come to its end first
            return [number for number, status in ended.items() if status]
        own = [0] * (self._server.state()["state"] == ENDED)
        return [*own, *ended]

    def _status_of_all(self, status: int) -> int:
        """Return how a life has ended of which one process has ended so.

        Of clients on GPUs each may be the one that says what a person has to mend; the
        others have lost it, and say so.
        """
        until = time.monotonic() + 3 * self._times.poll
        while not self._programs.has_worker and status not in FINAL:
            self._board.sync(now=True)
            ended = self._others.ended(self._life)
            for one in ended.values():
                if one in FINAL and one != Status.OK:
                    return one
            if len(ended) == self._job.hosts - 1 or time.monotonic() > until:
                break
            time.sleep(self._times.tick)
        return status

    def _why_end(self, status: int) -> int | None:
        """Return with what the job ends behind a life; None where another begins."""
        if status in FINAL:
            self._say(f"the client has ended with {status}: so do all hosts")
            return status
        if why := self._why_leave():
            self._say(f"{why}: ending with 75")
            return Status.RESTART
        if self._is_budget_spent():
            hours = f"budget of {self._job.budget_hours:g} h"
            self._say(f"{hours} spent; {self._newest()}; ending")
            return Status.OK
        if self._fruitless >= self._job.restarts_without_progress:
            lives = count(self._fruitless, "life", "lives")
            self._say(f"{lives} brought no checkpoint; {self._newest()}; ending with 1")
            return Status.NO
        return None

    def _newest(self) -> str:
        there = "there is none" if self._step < 0 else f"of step {self._step:,}"
        return f"the newest checkpoint: {there}"

    def _back_off(self, status: int) -> None:
        waits = self._times.backoff
        seconds = waits[min(self._fruitless, len(waits) - 1)]
        self._say(f"life {self._life} has ended with {status}: again in {seconds:g} s")
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._why_leave():
            self._tick()

    def _why_leave(self) -> str | None:
        """Return why this slice cannot go on, on which others may; None if it can."""
        if self._stop.requested:
            return "SIGTERM"
        if asked := self._others.wanting_end(self._life):
            return f"SIGTERM of {listed(asked)}"
        if self._board.has_come(NEXT):
            return "another host 0 wants to lead"
        return self._missing

    def _is_budget_spent(self) -> bool:
        return time.time() - self._first_start > 3600 * self._job.budget_hours

    def _count_progress(self) -> None:
        """See whether a life has brought a checkpoint; a bucket may not tell now."""
        try:
            step = progress.newest_step(self._job.model_dir)
        except (Restart, OSError):
            return
        self._fruitless = 0 if step > self._step else self._fruitless + 1
        self._step = max(step, self._step)

    def _end_all(self, status: int) -> None:
        """Say so, until it stands there; a host that has to go says it for a moment."""
        began = time.monotonic()
        self._post(END, int(status))
        self._board.sync(now=True)
        while not self._board.is_posted:
            times = self._times
            patience = times.report if self._stop.requested else times.alone
            if time.monotonic() - began > patience:
                break
            self._tick()

    def _post(self, want: str, status: int | None = None) -> None:
        self._board.post(
            want=want,
            life=self._life,
            status=status,
            first_start=self._first_start,
            step=self._step,
            fruitless=self._fruitless,
        )

    def _tick(self) -> None:
        time.sleep(self._times.tick)
        self._board.sync()

    def _say(self, line: str) -> None:
        say(escaped(f"{self._programs.place}: {line}"))
