"""Standard error without what converters and runtimes write there."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator

_STDERR = 2


@contextlib.contextmanager
def silent() -> Iterator[Callable[[], str]]:
    """Keep what is written to standard error to itself; lend its last line.

    Only in a process in which no other thread writes there.
    """
    with tempfile.TemporaryFile() as file:
        before = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)

        def heard() -> str:
            file.seek(0)
            return file.read().decode(errors="replace").strip().rpartition("\n")[2]

        try:
            with warnings.catch_warnings(), _no_log():
                # tf.lite.Interpreter's, which the calibrator imports, that it will go.
                warnings.simplefilter("ignore")
                yield heard
        finally:
            os.dup2(before, _STDERR)
            os.close(before)


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Hush the log of Python, of which tf2onnx makes use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
