"""Machines of a job on loopback: a host script each, quick ones with stand-ins."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from launch.host.identity import HOSTS, INDEX
from launch.job.host_job import HostJob
from tests.support import processes

QUICK = ("-m", "tests.support.quick_host")
_HERE = Path(__file__).parent
STORM_CLIENT = "-m tests.support.storm_client"
PLANNED_CLIENT = f"-IS {_HERE / 'planned_client.py'}"


def job(**changes) -> HostJob:
    """What hosts are told, of a slice of two."""
    told = {
        "name": "job",
        "submission": "job-1",
        "machines": "tpu",
        "generation": "v5e",
        "hosts": 2,
        "gin_files": (),
        "gin_params": (),
        "data_dir": "gs://bucket/data",
        "model_dir": "gs://bucket/run",
        "budget_hours": 1.0,
        "restarts_without_progress": 3,
        "grace_seconds": 10.0,
    }
    return HostJob(**told | changes)


class Slice:
    """The host scripts of a slice, by number.

    Attributes:
      job: that they run.
      hosts: the processes.
      addresses: of the hosts.
    """

    def __init__(
        self,
        job: HostJob,
        environment: dict[str, str],
        said: IO[str],
        command: tuple[str, ...] = QUICK,
        machine: str = "here",
    ):
        self.job, self.hosts = job, {}
        self._command, self._said = command, said
        self.addresses = [f"127.0.0.1:{p}" for p in processes.free_ports(job.hosts)]
        told = {HOSTS: ",".join(self.addresses), "MACHINE": machine}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self._environment = (
            os.environ | quiet | environment | job.to_environment() | told
        )
        for number in range(job.hosts):
            self.start(number)

    def start(self, number: int) -> None:
        self.hosts[number] = subprocess.Popen(
            [sys.executable, *self._command],
            env=self._environment | {INDEX: str(number)},
            stdout=self._said,
            stderr=self._said,
        )

    def pids(self, number: int) -> list[int]:
        """The host script and its children."""
        pid = self.hosts[number].pid
        return [pid, *children(pid)]

    def send(self, sent: int) -> None:
        """To everything there."""
        for number in self.hosts:
            for pid in self.pids(number):
                send(pid, sent)

    def statuses(self, seconds: float = 60) -> set[int]:
        """How all have ended, once they have."""
        return {process.wait(seconds) for process in self.hosts.values()}

    def kill(self) -> None:
        for process in self.hosts.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(*arguments, **options) -> Iterator[Slice]:
    """Start a slice; kill what is left of it in the end."""
    made = Slice(*arguments, **options)
    try:
        yield made
    finally:
        made.send(signal.SIGCONT)
        made.kill()


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(one) for one in text.split()]


def send(pid: int, sent: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sent)


def is_running(pid: int) -> bool:
    """Whether there is such a process, that has not ended."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False
