"""What the API of TPUs has of a job's project: addresses and lists."""

from collections.abc import Iterator, Mapping
from typing import Any

from launch.doctor.case import Case
from launch.job.job_file import Job


def parent(job: Job, zone: str) -> str:
    """Return the zone of a project, as the API names it."""
    return f"projects/{job.project}/locations/{zone}"


def nodes(case: Case, zone: str) -> Iterator[dict[str, Any]]:
    """Yield all TPU VMs of the project in a zone."""
    return case.google.pages("tpu", f"{parent(case.job, zone)}/nodes", "nodes")


def name(resource: Mapping[str, Any]) -> str:
    """Return the last part of a name."""
    return resource["name"].rpartition("/")[2]
