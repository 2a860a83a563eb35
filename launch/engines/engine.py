"""What every engine can do for a job."""

from typing import Protocol

from launch.engines.plan import Plan
from launch.job.job_file import Job

NAMES = ("skypilot", "jobset", "gcloud")


class Engine(Protocol):
    """A module of this package.

    Where a plan would ask for more than commands one after the other, an engine returns
    a script for a person in its place.
    """

    def render(self, job: Job, submission: str) -> str:
        """Return what the engine is given; UserError: it cannot do what a job asks."""
        ...

    def check(self, text: str, job: Job) -> str | None:
        """Hold what was rendered against the engine's own rules.

        Returns:
          In words who has checked it; None where that is not installed.

        Raises:
          UserError: the engine would refuse it, or understand something else.
        """
        ...

    def submit(self, job: Job, submission: str) -> Plan | str:
        """Return how machines are asked for, and told what to run."""
        ...

    def status(self, job: Job) -> Plan | str:
        """Return how one sees what has become of it."""
        ...

    def logs(self, job: Job) -> Plan | str:
        """Return how one reads what host 0 prints."""
        ...

    def down(self, job: Job) -> Plan | str:
        """Return how all is ended that costs something."""
        ...


def of(name: str) -> Engine:
    """Return the engine of a name of NAMES."""
    from launch.engines import gcloud, jobset, skypilot

    engines: dict[str, Engine] = {
        "skypilot": skypilot,
        "jobset": jobset,
        "gcloud": gcloud,
    }
    return engines[name]
