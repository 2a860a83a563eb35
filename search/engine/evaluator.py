"""Evaluations in a process apart, with limits of time and memory.

Whatever becomes of the process costs one result, with its reason. It is used again
while it is healthy, and leads a process group, so that what it has started goes with
it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError

_POLL_SECONDS = 0.2
_START_SECONDS = 300.0  # to read the config, on a machine that is full
_LOG_BYTES = 1 << 22  # of which a new process begins an empty one
_COMMAND = (sys.executable, "-m", "search.engine.evaluation")


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The worker was asked to stop in the middle of an evaluation."""


class Evaluator:
    """Evaluates one network after another in processes of its own."""

    def __init__(
        self,
        config: str,
        *,
        seconds: float,
        memory_gb: float | None,
        per_process: int,
        folder: Path,
        log: Path,
        is_stopped: Callable[[], bool],
        command: Sequence[str] = _COMMAND,
    ):
        """Prepare it; nothing is started yet.

        Args:
          config: text of the search's settings.
          seconds: that one evaluation may take.
          memory_gb: resident memory that it may take, in 10^9 bytes.
          per_process: evaluations before a process is replaced.
          folder: of the search, where trainings and compiled answers are kept.
          log: file that what it prints is appended to.
          is_stopped: whether this worker is to stop.
          command: of the process.
        """
        self._config = config
        self._seconds = seconds
        self._bytes = None if memory_gb is None else memory_gb * 1e9
        self._per_process = per_process
        self._folder = folder
        self._log = log
        self._is_stopped = is_stopped
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._left = 0
        self._received = b""

    def evaluate(self, network: str, rung: int) -> dict[str, Any]:
        """Evaluate a network.

        Args:
          network: its encoding.
          rung: of its training, from 0.

        Returns:
          Result's fields "value", "top1", "ms", "sources", "reason" and "seconds".

        Raises:
          UserError: the settings cannot be used.
          Stopped: this worker is to stop.
        """
        if self._process is None:
            self._start()
        began = time.monotonic()
        self._send({"network": network, "rung": rung})
        answer = self._receive(self._seconds)
        failed = isinstance(answer, str)
        fields = {"reason": answer} if failed else answer
        self._left -= 1
        if failed or self._left <= 0:
            self.close()
        return {**fields, "seconds": round(time.monotonic() - began, 3)}

    def close(self) -> None:
        """End the process, and all that it has started, at once."""
        process, self._process = self._process, None
        if process is None:
            return
        kill_group(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _start(self) -> None:
        self._left, self._received = self._per_process, b""
        self._log.parent.mkdir(exist_ok=True)
        big = self._log.exists() and self._log.stat().st_size > _LOG_BYTES
        with self._log.open("wb" if big else "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        self._send({"config": self._config, "folder": str(self._folder)})
        answer = self._receive(_START_SECONDS)
        why = answer if isinstance(answer, str) else answer.get("mistake")
        if why:
            self.close()
            raise UserError(f"evaluations cannot begin: {why}")

    def _send(self, what: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
        except BrokenPipeError:
            return  # it has died: there will be no answer, and a reason

    def _receive(self, seconds: float) -> dict[str, Any] | str:
        """Return the next answer, or why there will be none."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._received:
            if self._is_stopped():
                self.close()
                raise Stopped
            if select.select([self._process.stdout], [], [], _POLL_SECONDS)[0]:
                data = os.read(self._process.stdout.fileno(), 1 << 16)
                if not data:
                    return self._death()
                self._received += data
            elif time.monotonic() > until:
                return f"out of time: more than {seconds:g} s"
            elif why := self._why_too_large():
                return why
        line, _, self._received = self._received.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return "its process answered with what is no JSON"

    def _why_too_large(self) -> str:
        if self._bytes is None or self._process is None:
            return ""
        used = group_bytes(self._process.pid)
        if used <= self._bytes:
            return ""
        return f"out of memory: {used / 1e9:.1f} GB of {self._bytes / 1e9:g} GB"

    def _death(self) -> str:
        """Return in words how the process has ended, which has closed its output."""
        assert self._process is not None
        try:
            status = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "its process has closed its output"
        if status < 0:
            perhaps = ", perhaps for want of memory" * (-status == signal.SIGKILL)
            return f"killed by signal {-status}{perhaps}"
        return f"its process ended with status {status}: {self._last_words()}"

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:200] if said else "it said nothing"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, with the group; then wait for its end."""
    # Until it is waited for, nobody else can have its number.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:  # of all in it, none may be killed: all are gone
        pass
    process.wait()


def group_bytes(group: int) -> int:
    """Return the resident memory of a process group, in bytes; Linux alone.

    What its processes have started counts, too: a compiler's workers lead groups of
    their own. Pages that processes share count for each of them.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # Behind the name, in brackets: state, parent, group ... pages in field 24.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            found[int(folder.name)] = _Process(*map(int, (*fields[1:3], fields[21])))
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
    own = {number for number, one in found.items() if one.group == group}
    new = own
    while new:
        new = {n for n, one in found.items() if one.parent in new} - own
        own |= new
    return sum(found[n].pages for n in own) * os.sysconf("SC_PAGE_SIZE")


class _Process(NamedTuple):
    parent: int
    group: int
    pages: int
