"""The compiler's environment, and processes of it that answer requests."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tpu_compiler.errors import CompilerError, UnusableCompilerError

PACKAGES = ("jax", "jaxlib", "libtpu")
START_SECONDS = 120.0
_POLL_SECONDS = 3600.0  # `poll` cannot count for weeks

_ROOT = Path(__file__).resolve().parent.parent
# Not the caller's: they would change what the compiler does, unseen by the cache.
_DROPPED = ("JAX_", "XLA_", "TPU_", "LIBTPU_", "PYTHON")
# Without a TPU to look for, without logs, and beside other processes like it.
_SETTINGS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "PYTHONPATH": str(_ROOT),
}


@dataclasses.dataclass(frozen=True)
class Environment:
    """Where the compiler is installed.

    Attributes:
      python: of its virtual environment.
      versions: of the packages that decide what it makes of a module.
    """

    python: Path
    versions: dict[str, str]


def environment() -> Environment:
    """Return what is installed, without starting it; CompilerError if nothing is."""
    default = _ROOT / ".venv-tpu-compiler/bin/python"
    return _environment(Path(os.environ.get("TPU_COMPILER_PYTHON") or default))


@functools.cache
def _environment(python: Path) -> Environment:
    folders = python.parent.parent.glob("lib/python*/site-packages")
    found = {
        name: distribution.version
        for folder in folders
        for name in PACKAGES
        for distribution in importlib.metadata.distributions(
            name=name, path=[str(folder)]
        )
    }
    if not os.access(python, os.X_OK) or set(found) != set(PACKAGES):
        where = os.environ.get("TPU_COMPILER_PYTHON")
        raise UnusableCompilerError(
            "the TPU compiler is not installed: make tpu-compiler"
            + (f" (TPU_COMPILER_PYTHON is {where})" if where else "")
        )
    return Environment(python, found)


class CompilerWorker:
    """A process that compiles, one request after the other.

    It starts with the first request, and anew with the first after it has died.
    """

    def __init__(self, environment: Environment):
        self._environment = environment
        self._lock = threading.Lock()  # `kill` comes from another thread
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - what the processes say
        self._unread = b""

    def ask(
        self, request: dict[str, Any], *, name: str, timeout_seconds: float
    ) -> dict[str, Any]:
        """Return the answer to a request, see `tpu_compiler.worker`.

        Args:
          request: of one module.
          name: of the module, for the errors.
          timeout_seconds: for the compilation; the start of the process not counted.

        Raises:
          CompilerError: no answer in time, the process has died, or it says that it
            cannot serve the request. The next request gets a new process.
        """
        answered = False
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(process, timeout_seconds))
            answered = True
        except TimeoutError as error:
            raise CompilerError(
                f"{name}: not compiled within {timeout_seconds:g} seconds; allow more, "
                "or compile something smaller"
            ) from error
        except (EOFError, BrokenPipeError) as error:
            raise CompilerError(f"{name}: {self._death_message()}") from error
        finally:
            if not answered:
                self._end()
        if "error" in answer:
            raise CompilerError(f"{name}: {answer['error'].splitlines()[0]}")
        return answer

    def kill(self) -> None:
        """End the process for good, from any thread and whatever it does."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Free what a worker that nobody asks any more has taken."""
        self._end()
        self._log.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        """Return the process, started when there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
        self._log.seek(0)  # the process begins where this one stands
        self._log.truncate()
        with self._lock:
            if self._closed:
                raise EOFError
            # -P: nothing from the folder that the caller happens to be in. A session
            # of its own: Ctrl-C is for the caller, which ends its workers.
            try:
                self._process = subprocess.Popen(
                    [self._environment.python, "-P", "-m", "tpu_compiler.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    env=kept | _SETTINGS,
                    start_new_session=True,
                )
            except OSError as error:
                raise UnusableCompilerError(
                    f"cannot start {self._environment.python}: {error.strerror}; mend "
                    "the installation: make tpu-compiler"
                ) from error
        try:
            self._line(self._process, START_SECONDS)
        except TimeoutError as error:
            raise CompilerError(
                f"the compiler's process has not started within {START_SECONDS:g} "
                "seconds; see what else this machine does"
            ) from error
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", seconds: float) -> bytes:
        """Return the next line that the process writes."""
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not poll.poll(min(left, _POLL_SECONDS) * 1000):
                continue
            chunk = os.read(process.stdout.fileno(), 2**16)
            if not chunk:
                raise EOFError
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death_message(self) -> str:
        """Return what the process has died of."""
        if self._closed or self._process is None:
            return "the compilation was stopped"
        code = self._process.wait()
        reason = f"exit status {code}"
        if code < 0:
            reason = signal.Signals(-code).name
        if code == -signal.SIGKILL:
            reason += ", perhaps for want of memory"
        return f"the compiler's process has died ({reason}){self._fatal_log_line()}"

    def _fatal_log_line(self) -> str:
        """Return what the process has written as its reason to end, if anything."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        # Fatal lines of libtpu's log begin so: F1125 10:06:07.728167 ...] reason
        fatal = [line for line in lines if line.startswith("F") and "] " in line]
        if fatal:
            return f": {fatal[0].partition('] ')[2].strip()}"
        return f": {lines[-1].strip()}" if lines else ""

    def _end(self) -> None:
        """End the process and forgets it."""
        with self._lock:
            process, self._process, self._unread = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # half a request is in it
                process.stdin.close()
            process.stdout.close()
