"""Python in a process whose gs:// leads to a fake, and what it has asked of it.

TensorFlow reads the environment that leads it there when it is loaded.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.project import ROOT
from tests.support import fake_gcs

_AT_ONCE = {
    "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "0",
    "GCS_REQUEST_IDLE_TIMEOUT_SECS": "5",
}


class Traffic(NamedTuple):
    """Requests of a kind, and bytes of contents."""

    requests: int
    sent: int
    received: int


class Bucket:
    """A fake, and what was asked of it, a line of a log for each request."""

    def __init__(self, store: Any, environment: dict[str, str], log: Path):
        self.store = store
        self._environment = environment
        self._log = log

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run code in Python, to its good end."""
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **_AT_ONCE, **self._environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found

    def traffic(self, op: str, name: str = "") -> Traffic:
        """Return what there was of an operation, of objects whose names have this."""
        lines = map(json.loads, self._log.read_text().splitlines())
        found = [line for line in lines if line["op"] == op and name in line["name"]]
        sums = (sum(line[key] for line in found) for key in ("sent", "received"))
        return Traffic(len(found), *sums)


@contextlib.contextmanager
def bucket(folder: Path, *loaded: str) -> Iterator[Bucket]:
    """Serve a fake meanwhile.

    Args:
      folder: of its own files.
      *loaded: BUCKET or BUCKET/PREFIX=DIRECTORY, what is there.
    """
    log = folder / "requests"
    options: dict[str, Any] = {"log": log, "writes_per_second": 0}
    server, store, environment = fake_gcs.serve(folder, **options)
    for spec in loaded:
        fake_gcs.load(store, spec)
    try:
        yield Bucket(store, environment, log)
    finally:
        server.shutdown()
        server.server_close()
