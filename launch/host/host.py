"""One host of a job, from what it is told to its end."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from common import claims, gcs, outages
from common.console import escaped, say
from common.errors import Restart, Status
from launch.host.board import FOLDER, JOB, Board, host_name
from launch.host.follower import Follower
from launch.host.leader import Leader
from launch.host.programs import Programs
from launch.host.stop import Stop
from launch.host.times import Times


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
    others = [host_name(number) for number in range(1, job.hosts)]
    name = host_name(place.number)
    say(escaped(f"{place}, says {place.source}: {job.submission} in {job.model_dir}"))
    outages.watch(folder)  # it says so when the bucket does not answer

    def board(name: str, read: list[str]) -> Board:
        return Board(folder, name, read, submission=job.submission, times=times)

    if place.number:
        return Status(Follower(programs, board(name, [JOB]), times, stop).run())
    with _held(folder, times):
        return Status(Leader(programs, board(JOB, others), times, stop).run())


@contextlib.contextmanager
def _held(folder: str, times: Times) -> Iterator[None]:
    """Hold the board, as soon as nobody else does who lives.

    Raises:
      UserError: it may not be written.
      Restart: somebody does for too long.
    """
    if not folder.startswith(gcs.SCHEME):
        Path(folder.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    began, has_said = time.monotonic(), False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claims.hold(folder, "a job"))
                break
            except claims.Held as by:
                if time.monotonic() - began > times.alone:
                    raise Restart(str(by)) from by
                if not has_said:
                    say(escaped(f"waiting for another leader's end: {by}"))
                has_said = True
            time.sleep(times.poll)
        yield
