"""What Google says of a TPU VM that runs, by cloud-tpu-client.

The only place for it: it is of 2020, speaks v1 of the API, and fetches that one's
description from Google each time. It is left out of the lock for TPUs, where TensorFlow
would take it in place of its own newer copy. Nothing of it is asked for that reads the
flags of absl, which nobody parses here.
"""

from typing import Any, NamedTuple

from common.errors import first_line
from launch.doctor.findings import NotAnswered


class NodeState(NamedTuple):
    """Of a TPU VM.

    Attributes:
      state: READY, PREEMPTED ...; None where it is not said, as the other two.
      health: HEALTHY, TIMEOUT, UNHEALTHY_TENSORFLOW, UNHEALTHY_MAINTENANCE.
      symptoms: kind and worker of each, the oldest first.
    """

    state: str | None
    health: str | None
    symptoms: tuple[str, ...]


def look(
    node: str, zone: str, project: str, credentials: Any, service: Any = None
) -> NodeState:
    """Return what is said of a TPU VM.

    Args:
      node: its name.
      zone: where it is.
      project: whose it is.
      credentials: of google-auth.
      service: an interface of googleapiclient's making; None makes it.

    Raises:
      NotAnswered: the client is not there, or gets no answer.
    """
    try:
        from cloud_tpu_client import Client
    except ImportError as error:
        raise NotAnswered(f"cloud-tpu-client is not here: {error}") from error
    client = Client(node, zone, project, credentials=credentials, service=service)
    try:
        state, health = client.state(), client.health()
        symptoms = client.symptoms() or ()
    except Exception as error:
        # What httplib2, googleapiclient and google-auth raise; the client itself makes
        # a ValueError of some of it.
        raise NotAnswered(f"{node}: {first_line(error)}") from error
    return NodeState(state, health, tuple(map(_said, symptoms)))


def _said(symptom: dict[str, str]) -> str:
    worker = symptom.get("workerId")
    of = f" of worker {worker}" if worker else ""
    return f"{symptom.get('symptomType')}{of} at {symptom.get('createTime')}"
