"""Long work in many processes: with progress, and none of them outlives its parent."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import tensorflow as tf
from tqdm import tqdm

from common import console
from input_pipeline.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")
Advance = Callable[[int], None]

_POLL_SECONDS = 0.5
_LOG_SECONDS = 30.0
# This process's view of the counter that all workers share. Only a worker has one.
_counter: Any = None


def run(
    function: Callable[[Task, Advance], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    total: int,
    unit: str,
) -> list[Result]:
    """Call function(task, advance) for every task and returns the results in order.

    Args:
      function: of a module, so that processes find it; calls advance(n) after n units.
      tasks: what the processes get, pickled.
      workers: processes. With 1 all happens in this one.
      total: units in all the tasks, for the progress shown on stderr.
      unit: what is counted, "images".

    Raises:
      DataError: a function raised it, or a process died. The other processes are ended
        at once, in the middle of their work; so they are if this one is killed.
    """
    with _Progress(total, unit) as progress:
        if workers == 1 or len(tasks) <= 1:
            return [function(task, progress.advance) for task in tasks]
        return _run_in_processes(
            function, tasks, min(workers, len(tasks)), progress.show
        )


def _run_in_processes(
    function: Callable[[Task, Advance], Result],
    tasks: Sequence[Task],
    workers: int,
    show: Callable[[int], None],
) -> list[Result]:
    # Forked, but not from here, where TensorFlow's threads would be missing, with their
    # locks held: from a process that imports what they need, once, and does no more.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    counter = context.Value("q", 0)
    # Nothing is ever sent. The workers end when the other side closes it or dies.
    alive, lifeline = context.Pipe(duplex=False)
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, context, _start_worker, (alive, counter)
    )
    try:
        with _interrupts_held_back():
            futures = [executor.submit(_call, function, task) for task in tasks]
        pending = set(futures)
        while pending:
            done, pending = concurrent.futures.wait(pending, timeout=_POLL_SECONDS)
            for future in done:
                future.result()
            # Without its lock, which a worker that was killed may hold for ever.
            show(counter.get_obj().value)
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps for want of memory: "
            "start again with fewer --workers"
        ) from None
    finally:
        lifeline.close()
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C: their parent ends them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def leave_gpus_alone() -> None:
    """Take no GPU: all the work is the processor's, and they may be busy training."""
    # A process that uses them already keeps them.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")


def _start_worker(alive: Connection, counter: Any) -> None:
    global _counter
    _counter = counter
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    leave_gpus_alone()
    # There is a process for every core.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent(alive: Connection) -> None:
    alive.poll(None)
    os._exit(1)


def _call(function: Callable[[Task, Advance], Result], task: Task) -> Result:
    return function(task, _advance_shared)


def _advance_shared(count: int) -> None:
    with _counter.get_lock():
        _counter.value += count


class _Progress:
    """A bar on a terminal; in a log, a line every half minute."""

    def __init__(self, total: int, unit: str):
        self._total, self._unit, self._count = total, f" {unit}", 0
        self._begin = self._logged = time.monotonic()
        self._bar = (
            tqdm(total=total, unit=self._unit, dynamic_ncols=True, leave=False)
            if console.is_terminal()
            else None
        )

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        """Count so many more."""
        self.show(self._count + count)

    def show(self, count: int) -> None:
        """Say how many are done by now."""
        if self._bar is not None:
            self._bar.update(count - self._count)
        elif time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            elapsed = self._logged - self._begin
            line = tqdm.format_meter(
                count, self._total, elapsed, ncols=0, unit=self._unit
            )
            console.say(line)
        self._count = count
