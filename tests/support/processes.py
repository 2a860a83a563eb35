"""Runs in processes of their own: one, or several that work together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.runs import TINY, bindings


def command(
    data_dir,
    model_dir,
    changes: dict[str, Any],
    *arguments: str,
    gin_file: str = TINY,
    devices: int | None = None,
) -> list[str]:
    """The command line of a run; on so many CPUs its graphs are not optimized."""
    module = ["train.main"]
    if devices is not None:
        module = ["tests.support.several_devices", str(devices)]
    return [
        sys.executable,
        "-m",
        *module,
        f"--gin_file={gin_file}",
        *(f"--gin_param={binding}" for binding in bindings(data_dir, changes)),
        f"--model_dir={model_dir}",
        *arguments,
    ]


@contextlib.contextmanager
def started(
    command: Sequence[str], *, workers: int = 1, **options: Any
) -> Iterator[list[subprocess.Popen]]:
    """One process of a command, or several that find each other on this machine."""
    environments = [None] if workers == 1 else _tf_configs(workers)
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for environment in environments
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _tf_configs(workers: int) -> list[dict[str, str]]:
    hosts = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": hosts},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in range(workers)
    ]


def free_ports(count: int) -> list[int]:
    """Ports of this machine where nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def run(command: Sequence[str], *, workers: int = 1, timeout: float = 300) -> str:
    """Runs to the end; returns what the first process said on standard error."""
    with started(command, workers=workers) as processes:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text
    return said[0]


def heed_interrupts() -> None:
    """Let a process that is about to start get SIGINT: as `preexec_fn` of Popen.

    A shell without job control, or nohup, lets what it starts in the background ignore
    it, and so does what that starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_together(processes: Sequence[subprocess.Popen]) -> None:
    """Let processes go that say "ready" and then wait for a line, all at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
