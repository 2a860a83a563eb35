"""Which host of its job this machine is, and where the others are.

Engines tell it in ways of their own. The order is that of the slice, which is not the
order of the engine's ranks: TensorFlow takes the n-th address for the n-th worker.
"""

import dataclasses
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from common.errors import Restart, UserError
from launch.job import ports
from launch.job.host_job import HOSTS, INDEX, HostJob

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?")
_METADATA_SECONDS, _TRIES = 5.0, 3
_MOST_BYTES = 1 << 20

# From the environment to number and names as they are told; None if they are not.
_Source = Callable[[Mapping[str, str]], tuple[str, str] | None]


@dataclasses.dataclass(frozen=True)
class Place:
    """A host among those of its job.

    Attributes:
      number: of this host, from 0.
      addresses: "host:port" of each, in order: of its worker, or of its client on GPUs.
      source: who says so.
    """

    number: int
    addresses: tuple[str, ...]
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their ports."""
        return tuple(one.rpartition(":")[0] for one in self.addresses)

    def __str__(self) -> str:
        return f"host {self.number} of {len(self.addresses)}"


def find(job: HostJob, environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place of this host.

    Args:
      job: whose hosts are as many as are found, or this one alone.
      environment: of this process; GCE_METADATA_HOST stands for the metadata server.

    Raises:
      UserError: nobody tells, or something that cannot be.
      Restart: the metadata server does not answer.
    """
    sources = _OF_TPUS if job.machines == "tpu" else _OF_GPUS
    port = ports.WORKER if job.machines == "tpu" else ports.CLIENT
    for source, ask in sources.items():
        if (told := ask(environment)) is not None:
            return _place(job, source, *told, port=port)
    if job.hosts == 1:
        return Place(0, (f"127.0.0.1:{port}",), "alone")
    raise UserError(
        f"the job has {job.hosts} hosts, and nobody tells which one this is: neither "
        f"{', nor '.join(sources)}"
    )


def _of_launch(environment: Mapping[str, str]) -> tuple[str, str] | None:
    names = environment.get(HOSTS)
    return None if names is None else (environment.get(INDEX, ""), names)


def _of_gke(environment: Mapping[str, str]) -> tuple[str, str] | None:
    number, names = (
        environment.get(f"TPU_WORKER_{one}") for one in ("ID", "HOSTNAMES")
    )
    # An empty one tells nothing: of a single host GKE may leave it so.
    return None if number is None or not names else (number, names)


def _of_skypilot(environment: Mapping[str, str]) -> tuple[str, str] | None:
    rank, ips = (environment.get(f"SKYPILOT_NODE_{one}") for one in ("RANK", "IPS"))
    return None if rank is None or ips is None else (rank, ",".join(ips.split()))


def _of_metadata(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what a TPU VM is told by its machine; each end has its IP third."""
    server = environment.get("GCE_METADATA_HOST") or "metadata.google.internal"
    number = _attribute(server, "agent-worker-number")
    ends = _attribute(server, "worker-network-endpoints") if number else None
    if number is None or ends is None:
        return None
    fields = [end.split(":") for end in ends.split(",")]
    if any(len(one) < 3 for one in fields):
        raise UserError(
            f"the metadata server says {ends!r:.80} for worker-network-endpoints, "
            "where each end should have three fields, or more, between colons"
        )
    return number, ",".join(one[2] for one in fields)


_LAUNCH = f"{HOSTS} with {INDEX}"
_OF_TPUS: Mapping[str, _Source] = {
    _LAUNCH: _of_launch,
    "TPU_WORKER_ID with TPU_WORKER_HOSTNAMES": _of_gke,
    "agent-worker-number of the metadata server": _of_metadata,
}
_OF_GPUS: Mapping[str, _Source] = {
    _LAUNCH: _of_launch,
    "SKYPILOT_NODE_RANK with SKYPILOT_NODE_IPS": _of_skypilot,
}


def _place(job: HostJob, source: str, number: str, names: str, *, port: int) -> Place:
    """Check what was told."""
    found = [name.strip() for name in names.split(",")]
    for name in found:
        if not _NAME.fullmatch(name):
            raise UserError(f"{source}: {name!r:.80} is no name or address of a host")
        if found.count(name) > 1:
            raise UserError(f"{source}: {name} stands there twice")
    if len(found) != job.hosts:
        raise UserError(
            f"{source}: there are {len(found)} hosts ({', '.join(found)[:200]}), and "
            f"the job {job.name} has {job.hosts}; these are not the machines that its "
            "file asks for"
        )
    if not re.fullmatch("[0-9]{1,6}", number) or int(number) >= len(found):
        raise UserError(
            f"{source}: this host is {number!r:.40}, which is none of 0 to "
            f"{len(found) - 1}"
        )
    addresses = [name if ":" in name else f"{name}:{port}" for name in found]
    return Place(int(number), tuple(addresses), source)


def _attribute(server: str, name: str) -> str | None:
    """Return what a machine's metadata server says; None where it has no such thing.

    Raises:
      Restart: there is one, and it does not answer.
    """
    why = ""
    for _ in range(_TRIES):
        try:
            return _get(
                f"http://{server}/computeMetadata/v1/instance/attributes/{name}"
            )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return None
            why = str(error)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, TimeoutError):  # there is no such server
                return None
            why = str(error.reason)
        except OSError as error:
            why = str(error)
        time.sleep(1.0)
    raise Restart(f"the metadata server {server} does not answer: {why}")


def _get(url: str) -> str | None:
    """Return an answer that is Google's, and text; proxies are not asked."""
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_METADATA_SECONDS) as answer:
        if answer.status != 200 or answer.headers.get("Metadata-Flavor") != "Google":
            return None
        return answer.read(_MOST_BYTES).decode(errors="replace").strip()
