"""The worker processes of one machine: started, replaced when they die, stopped."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from common import console
from common.errors import Restart, Status, UserError
from search.engine.worker import Order

_COMMAND = (sys.executable, "-m", "search.engine.worker")
_MOST_DEATHS = 5  # of workers, one after another, before anything was evaluated
_STOP_SECONDS = 8.0


class Crew:
    """Workers that share one order. To be stopped at the end, whatever happens."""

    def __init__(self, order: Order, size: int, command: Sequence[str] = _COMMAND):
        """Start them.

        Args:
          order: what each of them is to do.
          size: how many.
          command: of a worker.
        """
        self._order = (json.dumps(dataclasses.asdict(order)) + "\n").encode()
        self._command = command
        self._deaths = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(size):
                self._workers.append(self._start())
        except BaseException:
            self.stop()
            raise

    def check(self, has_progressed: bool) -> bool:
        """See whether they live; start another for each that was killed.

        Args:
          has_progressed: whether anything was evaluated since the last call.

        Returns:
          Whether anybody is still at work.

        Raises:
          UserError: a worker has ended with a mistake, which it has said; or one after
            another dies.
          Restart: the store is away.
        """
        if has_progressed:
            self._deaths = 0
        for place, worker in enumerate(self._workers):
            status = worker.poll()
            if status in (None, Status.OK):
                continue
            if status == Status.RESTART:
                raise Restart("a worker cannot go on, see above")
            if status > 0:
                raise UserError("a worker has ended with a mistake, see above")
            self._deaths += 1
            if self._deaths > _MOST_DEATHS:
                raise UserError(
                    f"{self._deaths} workers have died one after another, the last by "
                    f"signal {-status}: is there enough memory?"
                )
            console.say(f"a worker was killed by signal {-status}; another one starts")
            _close(worker)
            self._workers[place] = self._start()
        return any(worker.poll() is None for worker in self._workers)

    def stop(self) -> None:
        """Let them give back what they have; kill who takes too long."""
        for worker in self._workers:
            _close(worker)
        until = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            try:
                worker.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # In a session of its own, Ctrl-C reaches the master alone, which stops it.
        worker = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead: `check` sees it
            worker.stdin.write(self._order)
        return worker


def _close(worker: subprocess.Popen[bytes]) -> None:
    if worker.stdin is not None:
        worker.stdin.close()
