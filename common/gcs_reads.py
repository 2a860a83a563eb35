"""How TensorFlow reads from gs://, which is settled when its library is loaded.

Its client reads 64 MiB from the first byte on that anything asks for, for each file
that is opened, unless more is asked for at once. That suits whoever reads files to
their ends. Training opens a file for a chunk of some records, of 2 MB for ImageNet's:
data would be fetched thirty times over. With a small buffer the client fetches what is
asked for, and whoever asks has to know how much that is, as `input_pipeline.chunks`
does.

Not with a buffer of nothing: what is read goes straight to whoever asks then, and so
does the text of an error. Where less was asked for, as the byte before a chunk or the
48 at a checkpoint's end, it has no room there, and the client takes a 503 for something
that it need not try again.
"""

import os
import sys
from collections.abc import Callable, Mapping

from common import gcs
from common.console import warn

_BUFFER_MB = "GCS_READ_CACHE_BLOCK_SIZE_MB"
_BUFFER_BYTES = "GCS_READAHEAD_BUFFER_SIZE_BYTES"  # the other one wins
_CACHE_MB = "GCS_READ_CACHE_MAX_SIZE_MB"  # of such buffers; none by default
_DEFAULT_BYTES = 64 << 20
_BYTES = 2048  # above the texts of errors, Google's and proxies'
_WORTH_A_WORD = 1.25  # bytes fetched for a byte of records
_said: set[str] = set()  # in this process


def gcs_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a process that reads records from gs:// has to be started with.

    It counts only in the environment that TensorFlow is loaded in: what starts another
    process, as the worker of a slice, puts it into that one's.

    Args:
      environment: of this process; what somebody has set there stays as it is.
    """
    names = (_BUFFER_MB, _BUFFER_BYTES, _CACHE_MB)
    found = {name: environment[name] for name in names if name in environment}
    return found or {_BUFFER_BYTES: str(_BYTES)}


def set_environment() -> None:
    """Set it for this process and its children, if TensorFlow is not loaded yet."""
    if "tensorflow" not in sys.modules:
        os.environ.update(gcs_environment())
        # It would remember what `common.gcs`, and other machines, have changed since.
        os.environ.setdefault("GCS_STAT_CACHE_MAX_AGE", "0")


def warn_of_cost(folder: str, data_bytes: int, fetched: Callable[[int], int]) -> None:
    """Warn once a process where it fetches much more from gs:// than it reads.

    Args:
      folder: of the records.
      data_bytes: of all records that are read there.
      fetched: from the bytes of TensorFlow's buffer to those that it fetches to read
        each record once.
    """
    why, size = _buffer(os.environ)
    if size <= _BYTES:
        return
    cached = (_number(os.environ.get(_CACHE_MB, "")) or 0) << 20
    if not folder.startswith(gcs.SCHEME) or why in _said or data_bytes <= cached:
        return
    cost = fetched(size) / max(data_bytes, 1)
    if cost > _WORTH_A_WORD:
        _said.add(why)
        warn(
            f"{why}: {folder} is fetched {cost:.1f} times over in an epoch; set "
            f"{_BUFFER_BYTES}={_BYTES} before TensorFlow is loaded"
        )


def _buffer(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return what has settled how large the buffer is, and its bytes."""
    for name, unit in ((_BUFFER_MB, 1 << 20), (_BUFFER_BYTES, 1)):
        if name in environment:
            number = _number(environment[name])
            size = _DEFAULT_BYTES if number is None else number * unit
            return f"{name}={environment[name]}", size
    return f"TensorFlow was loaded without {_BUFFER_BYTES}", _DEFAULT_BYTES


def _number(text: str) -> int | None:
    """Return a whole number; None where TensorFlow takes its default instead."""
    return int(text) if text.strip().isdecimal() else None
