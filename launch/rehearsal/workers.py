"""The processes that stand for the hosts of a slice."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from common.errors import UserError
from common.project import ROOT

_LOOPBACK = "127.0.0.1"


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


@contextlib.contextmanager
def started(
    hosts: int, cores: int, environment: Mapping[str, str] | None = None
) -> Iterator[Workers]:
    """Start the workers of a slice; end them behind it, or with this process.

    Args:
      hosts: how many.
      cores: of each.
      environment: what they have in place of, or besides, this process' own.

    Raises:
      UserError: one of them does not start.
    """
    command = [sys.executable, "-m", "launch.rehearsal.worker", str(cores)]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        processes = []
        for _ in range(hosts):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=without_proxy({**os.environ, **(environment or {})}),
                stdin=subprocess.PIPE,  # which a process keeps open until it ends
                stdout=subprocess.PIPE,
                stderr=log,
            )
            stack.callback(_end, process)
            processes.append(process)
        yield Workers(processes, [_port(process, log) for process in processes])


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which gRPC reaches this machine's own ports."""
    there = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = ",".join(dict.fromkeys(filter(None, [*there, _LOOPBACK, "localhost"])))
    return {**environment, "no_proxy": hosts, "NO_PROXY": hosts}


def _port(process: subprocess.Popen, log: object) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        return int(line)
    log.seek(0)  # pyright: ignore[reportAttributeAccessIssue]
    said = log.read().decode(errors="replace").strip()  # pyright: ignore
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
