"""A process that holds a folder, on a disk or in a bucket."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_HOLD = """
import sys
from common import claims
with claims.hold(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
print("left", flush=True)
"""


@contextlib.contextmanager
def holding_process(
    folder: str, what: str = "a training"
) -> Iterator[subprocess.Popen]:
    """Start one that holds a folder until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, folder, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()
