"""Keep a job alive on this host; every engine runs this on every host of a job.

    LAUNCH_JOB=... python -m launch.host

LAUNCH_JOB, which `python -m launch.job` writes, says all that there is to say. Host 0
runs the client, `python -m train.main`, and begins it anew, with new workers on all
hosts, as long as it ends with 75 or by a signal. The hosts speak through small files in
MODEL_DIR/launch.

Exit status, on all hosts the same: 0 the training is done, or the budget is spent; 1
the client has ended with 1, or too many lives brought no checkpoint; 2 a mistake that
a person has to mend; 75 the machines go away, or some do not answer: the same command
goes on, on these or on others.
"""

import argparse

from common import cli
from common.errors import Status


def _parser() -> argparse.ArgumentParser:
    return cli.parser("launch.host", __doc__)


@cli.command(_parser, outlives_pipes=True)
def main(arguments: argparse.Namespace) -> Status:
    """Run until the job ends."""
    del arguments
    from launch.host import host, identity
    from launch.host.programs import Programs
    from launch.job.host_job import HostJob

    job = HostJob.from_environment()
    return host.run(Programs(job, identity.find(job)))


if __name__ == "__main__":
    cli.leave(main())
