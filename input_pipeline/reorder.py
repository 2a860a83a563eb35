"""Numbered elements that come in any order, twice or never, put in order again."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from input_pipeline.stream import Tensors

_Lists = dict[str, tf.Tensor]


def reorder(
    unordered: tf.data.Dataset,
    recompute: Callable[[tf.Tensor], Tensors],
    *,
    first: int,
    window: int,
) -> tf.data.Dataset:
    """Return elements `first`, first + 1, ... of those that come in any order.

    An element that comes early waits in a slot of a buffer, n in slot n % window, until
    all before it have been handed over. Here with a window of 4, when 12 is the
    one that has to follow, while 13 and 15 wait:

        number       ... 10   11 | 12   13   14   15 | 16   17 ...
                     handed over | slots 0 to 3      | too early: no slot is free
                                 |  -   13    -   15 |

        12 comes     it is handed over, and 13 with it; 14 follows
        14 comes     it waits in slot 2
        11 comes     it came twice: it is dropped
        17 comes     12 and 13 are overdue, for 17 needs the slot of 13: 12 is
                     recomputed, 13 handed over, 14 follows; 17 waits in slot 1

    Args:
      unordered: of (int64 number, dict of tensors of static shape); some may be
        missing, others come twice.
      recompute: a number to its element, for one that is missing when another comes
        that is `window` or more ahead of it.
      first: the number to begin with; smaller ones are dropped.
      window: how many may wait for a missing one.
    """
    spec: Any = unordered.element_spec
    buffer = ReorderBuffer(spec[1], window, recompute)
    arrive = tf.autograph.experimental.do_not_convert(buffer.arrive)
    return unordered.scan(buffer.empty(first), arrive).unbatch()


class Waiting(NamedTuple):
    """The elements that wait.

    following: int64, the number of the element that has to be handed over next.
    slots: lists of `window` tensors, by the name of the tensor.
    taken: bool[window], in which slots an element waits.
    """

    following: tf.Tensor
    slots: _Lists
    taken: tf.Tensor


class ReorderBuffer:
    """What is done to the waiting elements when another one comes."""

    def __init__(
        self,
        specs: Mapping[str, tf.TensorSpec],
        window: int,
        recompute: Callable[[tf.Tensor], Tensors],
    ):
        self._lists = _TensorLists(specs)
        self._window = window
        self._recompute = recompute

    def empty(self, first: int) -> Waiting:
        """Return a state in which nothing waits and number `first` follows."""
        return Waiting(
            tf.constant(first, tf.int64),
            self._lists.reserve(self._window),
            tf.zeros([self._window], tf.bool),
        )

    def arrive(
        self, waiting: Waiting, arrived: tuple[tf.Tensor, Tensors]
    ) -> tuple[Waiting, Tensors]:
        """Return the state behind an arrival, and the rows that it lets go."""
        number, element = arrived
        # There is no slot for this one before what is overdue has gone.
        waiting, ready = self._hand_over(
            lambda waiting: number >= waiting.following + self._window,
            self._take_or_recompute,
            waiting,
            self._lists.empty(),
        )
        waiting = tf.cond(
            number < waiting.following,  # it came twice
            lambda: waiting,
            lambda: self._put(waiting, number, element),
        )
        waiting, ready = self._hand_over(self._has_come, self._take, waiting, ready)
        return waiting, self._lists.stack(ready)

    def _hand_over(
        self,
        condition: Callable[[Waiting], tf.Tensor],
        fetch: Callable[[Waiting], Tensors],
        waiting: Waiting,
        ready: _Lists,
    ) -> tuple[Waiting, _Lists]:
        """Move the following elements to `ready` while a condition holds."""

        def step(waiting: Waiting, ready: _Lists) -> tuple[Waiting, _Lists]:
            ready = self._lists.push(ready, fetch(waiting))
            return self._next(waiting), ready

        return tf.while_loop(
            lambda waiting, ready: condition(waiting), step, (waiting, ready)
        )

    def _has_come(self, waiting: Waiting) -> tf.Tensor:
        return waiting.taken[self._slot(waiting.following)]

    def _take(self, waiting: Waiting) -> Tensors:
        return self._lists.get(waiting.slots, self._slot(waiting.following))

    def _take_or_recompute(self, waiting: Waiting) -> Tensors:
        return tf.cond(
            self._has_come(waiting),
            lambda: self._take(waiting),
            lambda: self._recompute(waiting.following),
        )

    def _put(self, waiting: Waiting, number: tf.Tensor, element: Tensors) -> Waiting:
        slot = self._slot(number)
        return waiting._replace(
            slots=self._lists.set(waiting.slots, slot, element),
            taken=_mark(waiting.taken, slot, True),
        )

    def _next(self, waiting: Waiting) -> Waiting:
        """Return the state behind the following element, whose slot uses no memory."""
        slot = self._slot(waiting.following)
        return Waiting(
            waiting.following + 1,
            self._lists.set(waiting.slots, slot, self._lists.nothing()),
            _mark(waiting.taken, slot, False),
        )

    def _slot(self, number: tf.Tensor) -> tf.Tensor:
        return tf.math.floormod(number, self._window)


def _mark(taken: tf.Tensor, slot: tf.Tensor, value: bool) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(taken, [[slot]], [value])


class _TensorLists:
    """TensorFlow's lists of tensors: one for each name of an element's tensors.

    A list is a value (a variant): to change one tensor of it copies none.
    """

    def __init__(self, specs: Mapping[str, tf.TensorSpec]):
        self._specs = specs

    def reserve(self, slots: int) -> _Lists:
        """Return lists of so many slots without content."""
        return {
            name: tf.raw_ops.TensorListReserve(
                element_shape=-1, num_elements=slots, element_dtype=spec.dtype
            )
            for name, spec in self._specs.items()
        }

    def nothing(self) -> Tensors:
        """Return an element that uses no memory."""
        return {name: tf.zeros([0], spec.dtype) for name, spec in self._specs.items()}

    def set(self, lists: _Lists, slot: tf.Tensor, element: Tensors) -> _Lists:
        """Return lists that hold an element in a slot."""
        return {
            name: tf.raw_ops.TensorListSetItem(
                input_handle=lists[name],
                index=tf.cast(slot, tf.int32),
                item=element[name],
            )
            for name in self._specs
        }

    def get(self, lists: _Lists, slot: tf.Tensor) -> Tensors:
        """Return the element of a slot."""
        return {
            name: tf.raw_ops.TensorListGetItem(
                input_handle=lists[name],
                index=tf.cast(slot, tf.int32),
                element_shape=spec.shape,
                element_dtype=spec.dtype,
            )
            for name, spec in self._specs.items()
        }

    def empty(self) -> _Lists:
        """Return lists to push to."""
        return {
            name: tf.raw_ops.EmptyTensorList(
                element_shape=spec.shape, max_num_elements=-1, element_dtype=spec.dtype
            )
            for name, spec in self._specs.items()
        }

    def push(self, lists: _Lists, element: Tensors) -> _Lists:
        """Return lists with an element at their end."""
        return {
            name: tf.raw_ops.TensorListPushBack(
                input_handle=lists[name], tensor=element[name]
            )
            for name in self._specs
        }

    def stack(self, lists: _Lists) -> Tensors:
        """Return the elements of lists that were pushed to, as rows."""
        return {
            name: tf.raw_ops.TensorListStack(
                input_handle=lists[name],
                element_shape=spec.shape,
                element_dtype=spec.dtype,
            )
            for name, spec in self._specs.items()
        }
