"""Checkpoints of a run: found, restored, and saved while the training goes on.

What a process that is killed, or a power cut, leaves of them: see `bundle`.
"""

import functools
from collections.abc import Callable, Mapping
from concurrent import futures
from types import TracebackType

import numpy as np
import tensorflow as tf

from common.console import say
from common.errors import Restart, UserError
from train.checkpoints import bundle, retention
from train.checkpoints.bundle import (
    Damaged,
    delete,
    read,
    remove_leftovers,
    step,
)
from train.checkpoints.directory import (
    take_newest,
    whole,
)

# What the chief shares when it has restored nothing.
_NONE, _FAILED, _AGAIN = -1, -2, -3
# A checkpoint's path and what it holds, if there is one.
_Found = tuple[str | None, dict[str, np.ndarray]]


class Checkpoints:
    """Saves and restores a run; as a context manager it ends with its last write.

    Attributes:
      saved_step: of the newest checkpoint that is written, is being written or was
        restored; None before there is one.
    """

    def __init__(
        self,
        variables: Mapping[str, tf.Variable],
        directory: str,
        *,
        keep: int,
        keep_every_hours: float | None = None,
        writes: bool = True,
    ):
        """Makes it, and removes what a process that was killed has left aside.

        Args:
          variables: by name, see `train.state`; "step" is one of them.
          directory: local or gs://; one process only writes there.
          keep: see `train.checkpoints.retention.kept`.
          keep_every_hours: likewise.
          writes: False for the workers whose files are not kept: they only count.

        Raises:
          UserError: the file system refuses.
        """
        self.saved_step: int | None = None
        self._variables = dict(variables)
        self._directory = directory
        self._kept = functools.partial(
            retention.kept, keep=keep, keep_every_hours=keep_every_hours
        )
        self._to_host = tf.function(self._read_variables, autograph=False)
        # One thread, so one write at a time; the interpreter's end waits for it.
        self._writer = futures.ThreadPoolExecutor(1, "checkpoint") if writes else None
        self._under_way: futures.Future[None] | None = None
        self._committed: int | None = None
        self._damaged: set[int] = set()  # steps, of what looks whole too
        if writes:
            remove_leftovers(directory)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            say(f"warning: {failure}")  # what has ended the run comes first
        finally:
            if self._writer:
                self._writer.shutdown()

    def restore_newest(
        self,
        *,
        share: Callable[[int], int] = lambda step: step,
        leads: bool = True,
        prefer: Callable[[int], bool] | None = None,
    ) -> str | None:
        """Fills the variables from the newest whole checkpoint.

        Every worker calls it, under the strategy's scope, and gets the chief's choice.

        Args:
          share: returns on every worker what the chief calls it with.
          leads: whether this process is the chief.
          prefer: see `take_newest`; the chief's counts.

        Returns:
          The path of the checkpoint; None if there is none at all.

        Raises:
          UserError: there are checkpoints but none is whole, the newest whole one does
            not fit the variables, or a worker does not see what the chief sees.
          Restart: the storage does not answer now.
        """
        self.wait()
        path, values = self._lead(share, prefer) if leads else self._follow(share)
        if path is None:
            return None
        _assign(self._variables, values)
        self.saved_step = self._committed = step(path)
        return path

    def save(self, *, wait: bool = False) -> str:
        """Takes the variables as they are now, and writes them in the background.

        A write under way is waited for. A step that is saved is not saved again.

        Args:
          wait: return when it is written.

        Returns:
          The path of the checkpoint.

        Raises:
          UserError: the write before has failed, or this one if it is waited for.
        """
        self.check()
        now = int(self._variables["step"].numpy())
        if now != self.saved_step:
            self.wait()
            if self._writer:
                self._under_way = self._writer.submit(self._write, self._snapshot())
            self.saved_step = now
        if wait:
            self.wait()
        return self._path(now)

    def check(self) -> None:
        """Raises the error of a write that has failed; waits for nothing."""
        if self._under_way and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is being written; raises if that has failed."""
        if self._under_way is None:
            return
        futures.wait([self._under_way])
        ended, self._under_way = self._under_way, None
        self.saved_step = self._committed  # they differ if the write has failed
        ended.result()

    def _path(self, step: int) -> str:
        return f"{self._directory}/ckpt-{step}"

    def _read_variables(self) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            return {name: tf.identity(v) for name, v in self._variables.items()}

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Returns the values of now; numpy() copies, so no later update shows there."""
        values = self._to_host()
        return {name: np.asarray(value.numpy()) for name, value in values.items()}

    def _write(self, values: Mapping[str, np.ndarray]) -> None:
        """Writes a checkpoint, then deletes what need not stay; in the background."""
        try:
            self._committed = step(bundle.write(values, self._directory))
            self._damaged.discard(self._committed)
            for old in self._superseded(self._committed):
                delete(self._path(old))
        except UserError as error:
            last = next(map(self._path, self._times()), "none yet")
            raise UserError(
                f"{error}, then run the same command; the last good one is {last}"
            ) from error

    def _superseded(self, latest: int) -> set[int]:
        """Returns the steps whose files are of no use now that this one is written."""
        times = self._times()
        old = times.keys() - self._kept(times) - {latest}
        # And what is left of a deletion or a write that was cut short. One of a later
        # step is written again when that step is reached.
        parts = bundle.steps(self._directory, bundle.DATA)
        parts -= bundle.steps(self._directory)
        return old | {step for step in parts if step < latest}

    def _times(self) -> dict[int, float]:
        """Returns when each was written of those not known to be damaged, by step."""
        return {
            found["step"]: found["time"]
            for _, found in whole(self._directory)
            if found["step"] not in self._damaged
        }

    def _lead(
        self, share: Callable[[int], int], prefer: Callable[[int], bool] | None
    ) -> _Found:
        """Returns the newest whole checkpoint, and shares its step."""
        try:
            found = take_newest(self._directory, self._load, prefer=prefer)
        except (UserError, Restart) as error:
            # Else the others would wait for ever.
            share(_AGAIN if isinstance(error, Restart) else _FAILED)
            raise
        share(step(found[0]) if found else _NONE)
        return found or (None, {})

    def _follow(self, share: Callable[[int], int]) -> _Found:
        """Returns the checkpoint that the chief has chosen."""
        chosen = share(_NONE)
        if chosen == _FAILED:
            raise UserError(
                f"the chief can restore no checkpoint of {self._directory}; it says why"
            )
        if chosen == _AGAIN:
            raise Restart(f"the chief cannot read {self._directory} now; it says why")
        if chosen == _NONE:
            return None, {}
        path = self._path(chosen)
        try:
            return path, _fitting(self._variables, path)
        except Damaged as fault:
            raise UserError(
                f"the chief restores {path}, which this host cannot read: "
                f"{fault.reason}; all hosts need the same directory"
            ) from fault

    def _load(self, path: str) -> dict[str, np.ndarray]:
        """Returns a value for every variable; remembers what is damaged."""
        try:
            return _fitting(self._variables, path)
        except Damaged:
            self._damaged.add(step(path))
            raise


def restore(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool = False
) -> None:
    """Fills every variable from the checkpoint at `path`; under the strategy's scope.

    Args:
      variables: by name, see `train.state`.
      path: of the checkpoint.
      partly: whether the file may hold more than is asked for.

    Raises:
      Damaged: the file cannot be read.
      UserError: it lacks a variable, has it in another shape or type or (unless
        `partly`) holds one more. Nothing is restored then, in both cases.
    """
    _assign(variables, _fitting(variables, path, partly=partly))


def _assign(
    variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray]
) -> None:
    for name, variable in variables.items():
        variable.assign(values[name])


def _fitting(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool = False
) -> dict[str, np.ndarray]:
    """Returns a value for every variable; errors are those of `restore`."""
    faults = _mismatches(variables, path, partly=partly)
    if faults:
        raise UserError(
            f"{path} does not fit this run: {faults[0]}"
            + f" (and {len(faults) - 1} more)" * (len(faults) > 1)
            + "; another model or optimizer wrote it, take another --model_dir"
        )
    return read(path, variables)


def _mismatches(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool
) -> list[str]:
    """Returns what tells the variables from those in the file, a line each."""
    none = ("none", "none")
    here = {n: (v.shape.as_list(), v.dtype.name) for n, v in variables.items()}
    there = bundle.shapes_and_types(path)
    names = here.keys() if partly else here.keys() | there.keys()
    return [
        f"{name} has the {what} {its} there, {ours} here"
        for name in sorted(names)
        for what, its, ours in zip(
            ("shape", "type"), there.get(name, none), here.get(name, none), strict=True
        )
        if its != ours
    ]
