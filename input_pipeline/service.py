"""Preprocessing on a fleet of workers, with the very batches of a single machine.

tf.data service hands out work without promises: elements come back in any order, and
those of a worker that dies never do. Here the work is numbered. A piece of it is one
buffer of the stream (`input_pipeline.stream`), which any worker can read and decode
from its number; the groups of images that come back are put in order, doubles are
dropped, and what stays missing is made here. So a fleet changes how fast batches come
and nothing else, whichever workers join, leave or die.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from input_pipeline.errors import DataError
from input_pipeline.stream import Tensors

Numbered = tuple[tf.Tensor, Tensors]

_FOREVER = tf.int64.max


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
    """The decoded groups of buffers `first`, first + 1, ... without end.

    Args:
      read: the number of a buffer to its records, tensors of `buffer_size` rows; runs
        on workers, and here for what they owe, like `decode`.
      decode: `group_size` rows of such a buffer to a group of images.
      service: of the dispatcher, "grpc://host:port".
      first: number of the first buffer.
      buffer_size: rows of a buffer.
      group_size: rows of a group; divides buffer_size.
      window: how many buffers the fleet may get ahead of a missing one before that is
        made here. A worker has up to three in work, so it has to be well above three
        times the workers. This host's memory may have to hold twice as many,
        decoded: those that wait, and their copies when they all come free.

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

    def make(number: tf.Tensor) -> Tensors:
        # Reads the whole buffer for one group of it, which costs about as much again
        # as to decode the group; a worker does not die often.
        buffer, place = number // groups, tf.math.floormod(number, groups)
        begin = place * group_size
        rows = read(buffer)
        return decode({k: v[begin : begin + group_size] for k, v in rows.items()})

    work = tf.data.Dataset.range(first, _FOREVER).map(numbered_groups).prefetch(1)
    work = work.unbatch().map(
        decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    arriving = work.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=service,
            compression=None,  # it does not make pixels smaller
        )
    )
    return in_order(arriving, make, first=first * groups, window=window * groups)


def _check(service: str) -> None:
    """Asks for a connection: the service itself would go on trying for an hour."""
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
    """Raises OSError or ValueError where nobody listens at "host:port"."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()


def in_order(
    arriving: tf.data.Dataset,
    make: Callable[[tf.Tensor], Tensors],
    *,
    first: int,
    window: int,
) -> tf.data.Dataset:
    """Elements `first`, first + 1, ... from those that arrive in any order.

    Args:
      arriving: of (int64 number, dict of tensors of static shape); some may be missing,
        others come twice.
      make: a number to its element, for one that is missing when another arrives that
        is `window` or more ahead of it.
      first: the number to begin with; smaller ones are dropped.
      window: how many may wait for a missing one.
    """
    spec: Any = arriving.element_spec
    shelf = _Shelf(spec[1], window)

    def waiting(following: Any, lists: Tensors, taken: tf.Tensor) -> Tensors:
        return shelf.get(lists, following % window)

    def overdue(following: Any, lists: Tensors, taken: tf.Tensor) -> Tensors:
        return tf.cond(
            taken[following % window],
            lambda: waiting(following, lists, taken),
            lambda: make(following),
        )

    def move(fetch: Callable[..., Tensors]) -> Callable[..., tuple]:
        def step(following, lists, taken, ready):
            ready = shelf.push(ready, fetch(following, lists, taken))
            lists, taken = shelf.clear(lists, taken, following % window)
            return following + 1, lists, taken, ready

        return step

    @tf.autograph.experimental.do_not_convert
    def arrive(state: Any, arrived: Any) -> Any:
        number, element = arrived
        # There is no slot for this one before what is overdue has gone.
        following, lists, taken, ready = tf.while_loop(
            lambda following, *_: number >= following + window,
            move(overdue),
            (*state, shelf.nothing_ready()),
        )
        lists, taken = tf.cond(
            number < following,  # it came twice
            lambda: (lists, taken),
            lambda: shelf.put(lists, taken, number % window, element),
        )
        *state, ready = tf.while_loop(
            lambda following, lists, taken, ready: taken[following % window],
            move(waiting),
            (following, lists, taken, ready),
        )
        return tuple(state), shelf.stack(ready)

    state = (tf.constant(first, tf.int64), *shelf.empty())
    return arriving.scan(state, arrive).unbatch()


class _Shelf:
    """Tensors by slot, for elements of one structure.

    A list of tensors is a value (a variant): to change one tensor of it copies none.
    """

    def __init__(self, specs: Mapping[str, tf.TensorSpec], slots: int):
        self._specs = specs
        self._slots = slots

    def empty(self) -> tuple[Tensors, tf.Tensor]:
        """Returns lists of nothing, and which slots are taken: none."""
        lists = {
            name: tf.raw_ops.TensorListReserve(
                element_shape=-1, num_elements=self._slots, element_dtype=spec.dtype
            )
            for name, spec in self._specs.items()
        }
        return lists, tf.zeros([self._slots], tf.bool)

    def put(
        self, lists: Tensors, taken: tf.Tensor, slot: tf.Tensor, element: Tensors
    ) -> tuple[Tensors, tf.Tensor]:
        """Returns lists that hold the element."""
        return self._set(lists, slot, element), _mark(taken, slot, True)

    def clear(
        self, lists: Tensors, taken: tf.Tensor, slot: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor]:
        """Returns lists whose slot uses no memory."""
        small = {name: tf.zeros([0], spec.dtype) for name, spec in self._specs.items()}
        return self._set(lists, slot, small), _mark(taken, slot, False)

    def get(self, lists: Tensors, slot: tf.Tensor) -> Tensors:
        """Returns the element of a slot."""
        return {
            name: tf.raw_ops.TensorListGetItem(
                input_handle=lists[name],
                index=tf.cast(slot, tf.int32),
                element_shape=spec.shape,
                element_dtype=spec.dtype,
            )
            for name, spec in self._specs.items()
        }

    def nothing_ready(self) -> Tensors:
        """Returns lists to push to."""
        return {
            name: tf.raw_ops.EmptyTensorList(
                element_shape=spec.shape, max_num_elements=-1, element_dtype=spec.dtype
            )
            for name, spec in self._specs.items()
        }

    def push(self, lists: Tensors, element: Tensors) -> Tensors:
        """Returns lists with the element at their end."""
        return {
            name: tf.raw_ops.TensorListPushBack(
                input_handle=lists[name], tensor=element[name]
            )
            for name in self._specs
        }

    def stack(self, lists: Tensors) -> Tensors:
        """Returns the elements of lists that were pushed to, as rows."""
        return {
            name: tf.raw_ops.TensorListStack(
                input_handle=lists[name],
                element_shape=spec.shape,
                element_dtype=spec.dtype,
            )
            for name, spec in self._specs.items()
        }

    def _set(self, lists: Tensors, slot: tf.Tensor, element: Tensors) -> Tensors:
        return {
            name: tf.raw_ops.TensorListSetItem(
                input_handle=lists[name],
                index=tf.cast(slot, tf.int32),
                item=element[name],
            )
            for name in self._specs
        }


def _mark(taken: tf.Tensor, slot: tf.Tensor, value: bool) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(taken, [[slot]], [value])
