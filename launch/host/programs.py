"""What runs on a host: a worker of TPUs, the client, and what both are told."""

import dataclasses
import json
import sys
from collections.abc import Sequence

from common.gcs_reads import gcs_environment
from launch.host.child import Child
from launch.host.identity import Place
from launch.job.host_job import HostJob
from launch.past_proxies import past_proxies
from train.distribution import workers

_WORKER = (sys.executable, "-m", "launch.host.worker")
_CLIENT = (sys.executable, "-m", "train.main")


@dataclasses.dataclass(frozen=True)
class Programs:
    """The processes of one host; they are new in each life.

    A server of TensorFlow's keeps what a client had in it, and its memory, until it
    notices that the client is gone.

    Attributes:
      job: of the host.
      place: of it.
      worker: the beginning of a worker's command; tests have their own.
      client: likewise.
    """

    job: HostJob
    place: Place
    worker: Sequence[str] = _WORKER
    client: Sequence[str] = _CLIENT

    @property
    def has_worker(self) -> bool:
        """Whether this host serves a client elsewhere, rather than be one itself."""
        return self.job.machines == "tpu"

    def start_worker(self) -> Child:
        """Start the service of this host's chips."""
        return Child(
            [
                *self.worker,
                f"--number={self.place.number}",
                f"--hosts={','.join(self.place.addresses)}",
                f"--generation={self.job.generation}",
            ],
            gcs_environment(),
        )

    def why_silent(self) -> str | None:
        """Return why this host's worker does not answer; None if it does."""
        return workers.why_silent(self.place.addresses[self.place.number])

    def start_client(self) -> Child:
        """Start the trainer: the one of a slice, or that of this host's GPUs."""
        arguments = self.job.train_arguments()
        told = self._slice() if self.has_worker else self._cluster()
        return Child([*self.client, *arguments], gcs_environment() | told)

    def _slice(self) -> dict[str, str]:
        name = ",".join(f"grpc://{address}" for address in self.place.addresses)
        # The chips are the workers'; two processes cannot have them.
        return past_proxies(self.place.names) | {
            "TPU_NAME": name,
            "TPU_LOAD_LIBRARY": "0",
        }

    def _cluster(self) -> dict[str, str]:
        if len(self.place.addresses) == 1:
            return {}
        config = {
            "cluster": {"worker": list(self.place.addresses)},
            "task": {"type": "worker", "index": self.place.number},
        }
        return past_proxies(self.place.names) | {"TF_CONFIG": json.dumps(config)}
