"""Preprocessing on a data service, with the very batches of a single machine.

tf.data service hands out work without promises: elements come back in any order, and
those of a worker that dies never do. Here the work is numbered. A piece of it is one
buffer of the stream (`input_pipeline.stream`), which any worker can read and decode
from its number; the groups of images that come back are put in order, doubles are
dropped, and what stays missing is recomputed here (`input_pipeline.reorder`). So a data
service changes how fast batches come and nothing else, whichever workers join, leave or
die.
"""

import socket
from collections.abc import Callable

import tensorflow as tf

from common import gfiles
from common.errors import one_line
from input_pipeline.errors import DataError
from input_pipeline.fused import library
from input_pipeline.reorder import reorder
from input_pipeline.stream import Tensors

Numbered = tuple[tf.Tensor, Tensors]

_FOREVER = tf.int64.max
_SERVICE = tf.data.experimental.service


def distributed(
    read: Callable[[tf.Tensor], Tensors],
    decode: Callable[[Tensors], Tensors],
    *,
    service: str,
    first: int,
    buffer_size: int,
    group_size: int,
    window: int,
) -> tf.data.Dataset:
    """Return the decoded groups of buffers `first`, first + 1, ... without end.

    Args:
      read: the number of a buffer to its records, tensors of `buffer_size` rows; runs
        on workers, and here for what they owe, like `decode`.
      decode: `group_size` rows of such a buffer to a group of images.
      service: of the dispatcher, "grpc://host:port".
      first: number of the first buffer.
      buffer_size: rows of a buffer.
      group_size: rows of a group; divides buffer_size.
      window: how many buffers the workers may get ahead of a missing one before that is
        recomputed here. A worker has up to three in work, so it has to be well above
        three times the workers. The memory of this machine may have to hold twice as
        many, decoded: those that wait, and their copies when they all come free.

    Returns:
      The dataset that decoding the buffers one after another is.

    Raises:
      DataError: no dispatcher answers.
    """
    _check(service)
    groups = buffer_size // group_size

    def numbered_groups(buffer: tf.Tensor) -> Tensors:
        rows = {
            name: tf.reshape(value, [groups, group_size])
            for name, value in read(buffer).items()
        }
        return {**rows, "number": buffer * groups + tf.range(groups, dtype=tf.int64)}

    def decoded(group: Tensors) -> Numbered:
        return group.pop("number"), decode(group)

    def recompute(number: tf.Tensor) -> Tensors:
        # Reads the whole buffer for one group of it, which costs about as much again
        # as to decode the group; a worker does not die often.
        buffer, group = number // groups, tf.math.floormod(number, groups)
        begin = group * group_size
        rows = read(buffer)
        return decode({k: v[begin : begin + group_size] for k, v in rows.items()})

    work = tf.data.Dataset.range(first, _FOREVER).map(numbered_groups).prefetch(1)
    work = work.unbatch().map(
        decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    unordered = work.apply(
        _SERVICE.distribute(
            processing_mode=_SERVICE.ShardingPolicy.DYNAMIC,
            service=service,
            compression=None,  # it does not make pixels smaller
        )
    )
    return reorder(unordered, recompute, first=first * groups, window=window * groups)


def _check(service: str) -> None:
    """Ask for a connection: the service itself would go on trying for an hour."""
    scheme, _, address = service.partition("://")
    try:
        if scheme != "grpc":
            raise ValueError("it does not begin with grpc://")
        connect(address)
    except (OSError, ValueError) as error:
        raise DataError(
            f"no tf.data service dispatcher answers at {service!r} ({error}): start "
            "one with python -m input_pipeline.serve dispatcher, and name it as in "
            "'grpc://host:5050'"
        ) from error


def connect(address: str) -> None:
    """Raise OSError or ValueError where nobody listens at "host:port"."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def start_dispatcher(port: int, work_dir: str | None, worker_timeout: float):
    """Start the server that hands out the work.

    Args:
      port: to listen at; 0 for any.
      work_dir: of its journal, with which another one can go on; None for none. It is
        made if need be.
      worker_timeout: seconds of silence after which a worker counts as dead.

    Returns:
      The server, which stops when it is deleted.

    Raises:
      DataError: it does not start.
    """
    if work_dir is not None:
        gfiles.make_folder(work_dir)
    try:
        return _SERVICE.DispatchServer(
            _SERVICE.DispatcherConfig(
                port=port,
                work_dir=work_dir,
                fault_tolerant_mode=work_dir is not None,
                worker_timeout_ms=round(worker_timeout * 1000),
            )
        )
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise _not_started("dispatcher", error) from error


def start_worker(dispatcher: str, address: str):
    """Start a server that does the work; it tries for an hour to reach its dispatcher.

    Args:
      dispatcher: its address, "host:port".
      address: of this one, "host:port", as trainers reach it.

    Returns:
      The server, which stops when it is deleted.

    Raises:
      DataError: it does not start.
    """
    library.find()  # of the pipelines that it will be given
    try:
        return _SERVICE.WorkerServer(
            _SERVICE.WorkerConfig(
                dispatcher_address=dispatcher,
                worker_address=address,
                port=int(address.rpartition(":")[2]),
                heartbeat_interval_ms=1000,
            )
        )
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise _not_started("worker", error) from error


def _not_started(role: str, error: Exception) -> DataError:
    return DataError(
        f"cannot start the {role}: {one_line(error)}; is the port free, and does the "
        "dispatcher run?"
    )
