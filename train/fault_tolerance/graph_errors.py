"""What goes wrong inside a graph, as what a person or a supervisor can act on."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from common import storage_errors
from common.errors import Restart, first_line
from input_pipeline.bad_records import explain
from input_pipeline.errors import DataError

# What collective operations and remote devices raise when their other end dies.
PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn an error from inside a graph into what a person can act on."""
    try:
        yield
    except tf.errors.OpError as error:
        text = explain(error)
        if text is not None:
            raise DataError(text) from error
        # Before it: what a storage raises has the codes of a peer that is lost.
        if ending := storage_errors.from_storage(error):
            raise ending from error
        if isinstance(error, PEER_LOST):
            raise Restart(
                "another process of this run, or its accelerator, is gone "
                f"({first_line(error)}); all processes have to be started again"
            ) from error
        raise
