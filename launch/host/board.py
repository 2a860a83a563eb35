"""What the hosts of a job tell each other, without a channel of their own.

    MODEL_DIR/launch/job.json       the leader's word: which life, run or end
    MODEL_DIR/launch/host-3.json    of each other host: whether it serves that life
    MODEL_DIR/launch/next.json      of who would lead, while another still does

Each file has one writer, and the others look at it every few seconds. That works on
every engine, needs no port, and survives the machines: when a job has begun, and how
many of its lives brought nothing, is asked of the board by whoever leads next.

An engine that believes a slice gone makes another, and the first may live on. So hosts
hear only those of their own slice, and say nothing before its leader leads; and a
leader ends, and its slice with it, when another host 0 of the same submission wants to
lead: who comes later was meant.

Whatever is read and written waits for a bucket that does not answer, until a host has
been without the board for too long.
"""

import concurrent.futures
import time
import uuid
from collections.abc import Sequence
from typing import Any

from common.errors import Restart, UserError
from launch.host import stores
from launch.host.times import Times

FOLDER = "launch"  # in model_dir
JOB, NEXT = "job", "next"
_AWAY = (Restart, OSError)
_THREADS = 16


def host_name(number: int) -> str:
    """Return the name of a host's file."""
    return f"host-{number}"


class Board:
    """The board as one host sees it.

    Attributes:
      before: what stood in this host's own file, of whichever submission.
    """

    def __init__(
        self,
        folder: str,
        name: str,
        others: Sequence[str],
        *,
        submission: str,
        machines: str,
        times: Times,
    ):
        """Look at what stands in this host's own file.

        Args:
          folder: of the board.
          name: of the file that this host writes.
          others: those that it reads.
          submission: what others say of another one is not heard.
          machines: those of the slice; nor is what those of another one say.
          times: see there.

        Raises:
          UserError: it may not be read.
          Restart: it cannot be read now.
        """
        self._folder, self._name, self._others = folder, name, others
        self._sender = {"submission": submission, "machines": machines}
        self._times = times
        self._store = stores.find(folder, name)
        self._writer, self._beats = uuid.uuid4().hex, 0
        self._own: dict[str, Any] = {}
        self._written: dict[str, Any] = {}
        self._heard: dict[str, dict[str, Any]] = {name: {} for name in others}
        now = time.monotonic()
        self._changed = dict.fromkeys(others, now)
        self._signs = dict.fromkeys(others, -1)
        self._last_write = self._last_read = -float("inf")
        self._answered, self._is_away = now, False
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
        self.before = self._store.look()

    def post(self, **said: Any) -> None:
        """Say something in place of what this host said before, at the next `sync`."""
        self._own = said

    @property
    def is_posted(self) -> bool:
        """Whether what this host has to say stands there."""
        return self._written == self._own

    def before_of_these(self) -> dict[str, Any]:
        """Return `before`; nothing if it is not of these machines."""
        return self.before if self.before.items() >= self._sender.items() else {}

    def heard(self, name: str) -> dict[str, Any]:
        """Return another's last words; none if they are not of these machines."""
        said = self._heard[name]
        return said if said.items() >= self._sender.items() else {}

    def heard_of_any(self, name: str) -> dict[str, Any]:
        """Return another's last words, of whichever machines of this submission."""
        said = self._heard[name]
        submission = self._sender["submission"]
        return said if said.get("submission") == submission else {}

    def has_come(self, name: str) -> bool:
        """Whether another, of any machines, has spoken since the first look at it."""
        return self._signs[name] > 0 and bool(self.heard_of_any(name))

    def silent_seconds(self, name: str) -> float:
        """Return for how long another of these machines has given no sign of life."""
        return time.monotonic() - self._changed[name]

    def sync(self, *, now: bool = False) -> None:
        """Read and write what is due.

        Args:
          now: read, and write what is new, at once.

        Raises:
          Restart: the board has been away for too long; or another process writes this
            host's file by now.
        """
        try:
            if now or time.monotonic() - self._last_read >= self._times.poll:
                self._last_read = time.monotonic()
                self._read()
            if self._own and self._is_due(now=now):
                self._last_write = time.monotonic()
                self._write()
        except Replaced:
            raise
        except _AWAY as error:
            self._miss(error)
        except UserError as error:  # it was allowed before
            if not self._written:
                raise
            self._miss(error)

    def _is_due(self, *, now: bool) -> bool:
        age = time.monotonic() - self._last_write
        if self.is_posted:
            return age >= self._times.beat
        return now or age >= self._times.write

    def _read(self) -> None:
        found = self._pool.map(self._store.read, self._others)
        for name, said in zip(self._others, found, strict=True):
            is_new = self._signs[name] < 0 or said != self._heard[name]
            self._signs[name] += is_new
            self._heard[name] = said
            # While the board was away nobody could give a sign.
            if self._is_away or (is_new and self.heard(name)):
                self._changed[name] = time.monotonic()
        self._answered, self._is_away = time.monotonic(), False

    def _write(self) -> None:
        own, self._beats = self._own, self._beats + 1
        marks = {"writer": self._writer, "beat": self._beats}
        # Who comes later has the place; but that of a leader is the claim's to give.
        takes = not self._written and self._name != JOB
        if not self._store.write(self._sender | marks | own, takes=takes):
            raise Replaced(
                f"another process writes {self._folder}/{self._name}.json by now, "
                "and so is this host of the job"
            )
        self._written = own

    def _miss(self, error: Exception) -> None:
        self._is_away = True
        seconds = time.monotonic() - self._answered
        if seconds > self._times.alone:
            raise Restart(
                f"{self._folder} has not answered for {seconds:,.0f} s: {error}"
            ) from error


class Replaced(Restart):
    """Another process has taken this one's place."""
