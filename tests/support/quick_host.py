"""`python -m launch.host` with stand-ins for worker and client, and less patience.

LAUNCH_JOB=... LAUNCH_HOSTS=... MACHINE=... python -m tests.support.quick_host
"""

import os
import sys
from pathlib import Path

from common import cli, outages
from common.claims import bucket, holder

STALE = 2.0
_WORKER = f"-IS {Path(__file__).with_name('storm_worker.py')}"


def hasten() -> None:
    """Shorten what waits; let $MACHINE tell machines apart, which the kernel does."""
    holder.STALE_SECONDS, holder.RENEW_SECONDS = STALE, STALE / 5
    holder.PATIENCE_SECONDS, bucket._POLL_SECONDS = 0.2, 0.1
    outages._PAUSE_SECONDS = 0.5
    machine = os.environ.get("MACHINE", "here")
    bucket._machine = lambda: machine


def main() -> int:
    from launch.host import host, identity
    from launch.host.programs import Programs
    from launch.host.times import Times
    from launch.job.host_job import HostJob

    hasten()
    times = Times(
        tick=0.05,
        poll=0.15,
        beat=0.4,
        write=0.05,
        answer=float(os.environ.get("ANSWER", "30")),
        alone=float(os.environ.get("ALONE", "30")),
        end=2.0,
        lost=float(os.environ.get("LOST", "2")),
        report=3.0,
        backoff=(0.05, 0.1),
    )
    job = HostJob.from_environment()
    programs = Programs(
        job,
        identity.find(job),
        worker=[sys.executable, *os.environ.get("WORKER", _WORKER).split()],
        client=[sys.executable, *os.environ["CLIENT"].split()],
    )
    return cli.run_command(lambda: host.run(programs, times))


if __name__ == "__main__":
    cli.leave(main())
