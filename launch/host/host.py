"""One host of a job, from what it is told to its end."""

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from common import claims, files, gcs, outages
from common.console import escaped, say
from common.errors import Restart, Status
from launch.host.board import FOLDER, JOB, NEXT, Board, host_name
from launch.host.follower import Follower
from launch.host.leader import Leader
from launch.host.programs import Programs
from launch.host.stop import Stop, Stopped
from launch.host.times import Times

_T = TypeVar("_T")


def run(programs: Programs, times: Times | None = None) -> Status:
    """Run until the job ends.

    Args:
      programs: of this host.
      times: how long it waits for what; those of production by default.

    Returns:
      The exit status.

    Raises:
      UserError: something that a person has to mend.
      Restart: the same command goes on.
    """
    times, stop = times or Times(), Stop()
    job, place = programs.job, programs.place
    folder = f"{job.model_dir}/{FOLDER}"
    say(escaped(f"{place} ({place.source}): {job.submission} in {job.model_dir}"))
    outages.watch(folder)  # it says so when the bucket does not answer
    board = functools.partial(
        Board,
        folder,
        submission=job.submission,
        machines=files.digest(",".join(place.addresses).encode()),
        times=times,
    )
    if place.number:
        mine = _patiently(lambda: board(host_name(place.number), [JOB]), times)
        return Status(Follower(programs, mine, times, stop).run())
    with contextlib.ExitStack() as stack:
        _take(folder, stack, lambda: board(NEXT, []), times)
        others = [NEXT, *map(host_name, range(1, job.hosts))]
        mine = _patiently(lambda: board(JOB, others), times)
        return Status(Leader(programs, mine, times, stop).run())


def _take(
    folder: str,
    stack: contextlib.ExitStack,
    make_candidate: Callable[[], Board],
    times: Times,
) -> None:
    """Hold the board, as soon as nobody else does; who does is told to leave it.

    Raises:
      UserError: it may not be written; or a job of another submission holds it.
      Restart: the bucket does not answer, or SIGTERM has come.
    """
    if not folder.startswith(gcs.SCHEME):
        Path(folder.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    began, candidate = time.monotonic(), None
    while True:
        try:
            stack.enter_context(claims.hold(folder, "a job"))
            return
        except Stopped:
            raise
        except claims.Held as by:
            if time.monotonic() - began > times.alone:
                raise
            if candidate is None:
                say(escaped(f"asking for the place of another host 0: {by}"))
                candidate = _patiently(make_candidate, times)
                candidate.post(wants="to lead")
        except (Restart, OSError):
            if time.monotonic() - began > times.alone:
                raise
        _wait(times, candidate)


def _wait(times: Times, candidate: Board | None) -> None:
    until = time.monotonic() + times.beat
    while time.monotonic() < until:
        time.sleep(times.tick)
        if candidate:
            candidate.sync()


def _patiently(make: Callable[[], _T], times: Times) -> _T:
    """Make what needs the bucket, or the disk, as soon as it answers.

    Raises:
      UserError: it refuses.
      Restart, OSError: it does not answer for too long, or SIGTERM has come.
    """
    began = time.monotonic()
    while True:
        try:
            return make()
        except Stopped:
            raise
        except (Restart, OSError):
            if time.monotonic() - began > times.alone:
                raise
        time.sleep(times.poll)
