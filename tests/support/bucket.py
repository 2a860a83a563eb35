"""A bucket for processes that a test starts."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fake_gcs import Store, serve

# A test has no time for what TensorFlow waits between two tries, 196 s before it gives
# up, nor for the minute in which a request may hang.
QUICK = {
    "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "0",
    "GCS_REQUEST_IDLE_TIMEOUT_SECS": "5",
}


@dataclass(frozen=True)
class Bucket:
    """What is served, and the environment in which a process finds it at gs://."""

    store: Store
    environment: dict[str, str]

    def run(self, command: Sequence[str], **environment: str) -> tuple[int, str, str]:
        """Run a command to its end; return its status, output and what it said."""
        done = subprocess.run(
            command,
            env=os.environ | self.environment | environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        return done.returncode, done.stdout, done.stderr

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], **environment: str
    ) -> Iterator[subprocess.Popen]:
        """Start a command whose standard error is to be read; kill it at the end."""
        with subprocess.Popen(
            command,
            env=os.environ | self.environment | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@contextlib.contextmanager
def serving(folder: Path, *buckets: str, **options: Any) -> Iterator[Bucket]:
    """Serve buckets that are empty at first; `options` are Store's."""
    server, store, environment = serve(folder, **options)
    store.buckets |= {name: {} for name in buckets}
    try:
        yield Bucket(store, environment | QUICK)
    finally:
        server.shutdown()
        server.server_close()


def wait_until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Return once something holds; it is looked at a hundred times a second."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
