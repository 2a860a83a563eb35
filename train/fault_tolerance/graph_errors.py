"""What goes wrong inside a graph, as what a person or a supervisor can act on."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from common import storage_errors
from common.errors import Restart, first_line
from input_pipeline.bad_records import explain
from input_pipeline.errors import DataError
from train.distribution import workers

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
        if is_peer_lost(error):
            who = workers.lost() or "another process of this run, or its accelerator,"
            raise Restart(
                f"{who} is gone ({first_line(error)}); all processes have to be "
                "started again"
            ) from error
        raise


def is_peer_lost(error: Exception) -> bool:
    """Return whether an error is that of another end that is gone.

    An InternalError may be anything; it is one where a worker of the slice is silent.
    """
    if isinstance(error, tf.errors.InternalError):
        return bool(workers.lost())
    return isinstance(error, PEER_LOST)
