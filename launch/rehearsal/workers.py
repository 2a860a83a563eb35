"""The processes that stand for the hosts of a slice."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from common.errors import UserError
from launch.past_proxies import past_proxies

_WORKER = Path(__file__).with_name("worker.py")
_LOOPBACK = "127.0.0.1"
# TensorFlow tells the workers that the client is at "localhost". On a slice that is
# their own machine; here it is a proxy that nobody answers at. Curl knows neither.
_CLIENT_OUT_OF_REACH = {
    "grpc_proxy": f"http://{_LOOPBACK}:9",
    "no_grpc_proxy": _LOOPBACK,
}
# Of TensorFlow's client of gs://: what is set here is not set on a slice.
_OF_THE_CLIENT = "GCS_"


@dataclasses.dataclass(frozen=True)
class SliceShape:
    """The slice that is rehearsed.

    Attributes:
      hosts: machines that feed cores.
      cores: of each host; a replica each.
    """

    hosts: int
    cores: int

    @property
    def replicas(self) -> int:
        """How many replicas there are."""
        return self.hosts * self.cores


@dataclasses.dataclass(frozen=True)
class Workers:
    """Processes that wait for a client.

    Attributes:
      processes: one a host, in the order of the hosts.
      ports: of this machine where they listen.
    """

    processes: Sequence[subprocess.Popen]
    ports: Sequence[int]

    @property
    def tpu_name(self) -> str:
        """What a client calls them in TPU_NAME."""
        return ",".join(f"grpc://{_LOOPBACK}:{port}" for port in self.ports)

    def ended(self) -> str | None:
        """Return which worker has ended, and how; None if none has."""
        for host, process in enumerate(self.processes):
            if process.poll() is not None:
                return f"the worker of host {host} has ended ({process.returncode})"
        return None


@contextlib.contextmanager
def started(
    hosts: int, cores: int, environment: Mapping[str, str] | None = None
) -> Iterator[Workers]:
    """Start the workers of a slice; end them behind it, or with this process.

    Args:
      hosts: how many.
      cores: of each.
      environment: what they have in place of, or besides, this process' own. What
        tunes the reading of gs:// they have from here alone.

    Raises:
      UserError: one of them does not start.
    """
    # By its path: in the folder of whoever calls, which paths of data may start from.
    command = [sys.executable, "-P", str(_WORKER), str(cores)]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        processes = []
        for _ in range(hosts):
            process = subprocess.Popen(
                command,
                env=_environment(environment or {}),
                stdin=subprocess.PIPE,  # which a process keeps open until it ends
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who has started it
            )
            stack.callback(_end, process)
            processes.append(process)
        yield Workers(processes, [_port(process, log) for process in processes])


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(_OF_THE_CLIENT)}
    return {**own, **_CLIENT_OUT_OF_REACH, **given}


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a client reaches the workers, past a proxy."""
    return {**environment, **past_proxies([_LOOPBACK], environment)}


def _port(process: subprocess.Popen, log: IO[bytes]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        return int(line)
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    raise UserError(
        f"a worker of the rehearsal has ended with {process.wait()}: "
        + (said.splitlines() or ["it said nothing"])[-1]
    )


def _end(process: subprocess.Popen) -> None:
    process.kill()  # one that was stopped, too
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
