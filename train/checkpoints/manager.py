"""Checkpoints of a run: found, restored, and saved while the training goes on.

What a process that is killed, or a power cut, leaves of them: see `bundle`.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from concurrent import futures
from types import TracebackType

import numpy as np
import tensorflow as tf

from common.claims import Held
from common.console import warn
from common.errors import UserError
from train.checkpoints import bundle, retention
from train.checkpoints.bundle import CorruptCheckpoint, Fence, step
from train.checkpoints.choice import load_chosen
from train.checkpoints.directory import list_checkpoints
from train.distribution import slices
from train.numerics import loss_scale


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
        run: str | None = None,
        fence: Fence = bundle.no_fence,
    ):
        """Touch no file yet.

        Args:
          variables: by name, see `train.state`; "step" is one of them.
          directory: local or gs://; one process only writes there, and has removed what
            others have staged, see `bundle.remove_stale`.
          keep: see `train.checkpoints.retention.steps_to_keep`.
          keep_every_hours: likewise.
          writes: False for the processes that are not the chief: they only count.
          run: that they belong to, see `ownership`.
          fence: called before anything is written or deleted there; it raises when
            another process does so now.
        """
        self.saved_step: int | None = None
        self._variables = dict(variables)
        # As they begin, so they begin again behind a checkpoint that has none of them.
        self._optional = {
            name: np.asarray(variable.numpy())
            for name, variable in variables.items()
            if _is_optional(name)
        }
        self._directory = directory
        self._run = run
        self._fence = fence
        self._kept = functools.partial(
            retention.steps_to_keep, keep=keep, keep_every_hours=keep_every_hours
        )
        self._to_host = tf.function(self._read_variables, autograph=False)
        # One thread, so one write at a time; the interpreter's end waits for it.
        self._writer = futures.ThreadPoolExecutor(1, "checkpoint") if writes else None
        self._under_way: futures.Future[None] | None = None
        self._committed: int | None = None
        self._corrupt: set[int] = set()  # steps, of what looks intact too
        self._keep = keep
        self._seen: dict[int, float] = {}  # as of `_times`

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
            warn(str(failure))  # what has ended the run comes first
        finally:
            if self._writer:
                self._writer.shutdown()

    def restore_newest(
        self,
        *,
        broadcast: Callable[[int], int] = lambda step: step,
        is_chief: bool = True,
        prefer: Callable[[str], bool] | None = None,
    ) -> str | None:
        """Fill the variables from the newest intact checkpoint.

        Every process calls it, under the strategy's scope, and gets the chief's choice.

        Args:
          broadcast: returns in every process what the chief calls it with.
          is_chief: whether this process is the one that writes.
          prefer: see `load_newest`, among so many as stay for being the newest; the
            chief's counts.

        Returns:
          The path of the checkpoint; None if there is none at all.

        Raises:
          UserError: there are checkpoints but none is intact, the newest intact one
            does not fit the variables, or a process does not see what the chief sees.
          Restart: the storage does not answer now.
        """
        self.wait()
        found = load_chosen(
            self._directory,
            self._load,
            broadcast=broadcast,
            is_chief=is_chief,
            prefer=prefer,
            among=self._keep,
        )
        if found is None:
            return None
        path, values = found
        _assign(self._variables, values)
        self.saved_step = self._committed = step(path)
        if self._writer:  # a kill right behind the last write may have left others
            self._delete_superseded(self._committed)
        return path

    def save(self, *, wait: bool = False, preempted: bool = False) -> str:
        """Take the variables as they are now, and write them in the background.

        A write under way is waited for. A step that is saved is not saved again.

        Args:
          wait: return when it is written.
          preempted: see `bundle.write`.

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
                self._under_way = self._writer.submit(
                    self._write, self._snapshot(), preempted
                )
            self.saved_step = now
        if wait:
            self.wait()
        return self._path(now)

    def check(self) -> None:
        """Raise the error of a write that has failed; wait for nothing."""
        if self._under_way and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written; raise if that has failed."""
        if self._under_way is None:
            return
        futures.wait([self._under_way])
        ended, self._under_way = self._under_way, None
        self.saved_step = self._committed  # they differ if the write has failed
        ended.result()

    def _path(self, step: int) -> str:
        return f"{self._directory}/ckpt-{step}"

    def _read_variables(self) -> dict[str, tf.Tensor]:
        with tf.device(slices.own_cpu()):
            return {name: tf.identity(v) for name, v in self._variables.items()}

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Return the values of now; numpy() copies, so no later update shows there."""
        with tf.device(slices.own_cpu()):  # whom no worker can reach
            values = self._to_host()
        return {name: np.asarray(value.numpy()) for name, value in values.items()}

    def _write(self, values: Mapping[str, np.ndarray], preempted: bool) -> None:
        """Write a checkpoint, then delete what need not stay; in the background."""
        try:
            path = bundle.write(
                values,
                self._directory,
                run=self._run,
                preempted=preempted,
                fence=self._fence,
            )
            self._committed = step(path)
            self._corrupt.discard(self._committed)
            self._seen.pop(self._committed, None)
            self._delete_superseded(self._committed)
        except Held:
            raise
        except UserError as error:
            last = next(map(self._path, self._times()), "none yet")
            raise UserError(
                f"{error}, then run the same command; the last good one is {last}"
            ) from error

    def _delete_superseded(self, latest: int) -> None:
        for old in self._superseded(latest):
            bundle.delete(self._path(old), fence=self._fence)

    def _superseded(self, latest: int) -> set[int]:
        """Return the steps whose files are of no use now that this one is written."""
        times = self._times()
        old = times.keys() - self._kept(times) - {latest}
        # And what is left of a deletion or a write that was cut short. One of a later
        # step is written again when that step is reached.
        parts = bundle.parts_of(self._directory, self._run)
        return old | {step for step in parts if step < latest}

    def _times(self) -> dict[int, float]:
        """Return when each was written of those that look intact, newest step first.

        Of those that stay for their age it is read once: there are more and more.
        """
        times = {}
        for path in list_checkpoints(self._directory):
            at = step(path)
            if at in self._corrupt:
                continue
            if len(times) >= self._keep and at in self._seen:
                times[at] = self._seen[at]
                continue
            with contextlib.suppress(CorruptCheckpoint):
                times[at] = bundle.read_manifest(path)["time"]
        self._seen = times
        return times

    def _load(self, path: str) -> dict[str, np.ndarray]:
        """Return a value for every variable; remember what is corrupt."""
        try:
            return self._optional | _fitting(self._variables, path)
        except CorruptCheckpoint:
            self._corrupt.add(step(path))
            raise


def restore(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool = False
) -> None:
    """Fill every variable from the checkpoint at `path`; under the strategy's scope.

    Args:
      variables: by name, see `train.state`.
      path: of the checkpoint.
      partly: whether the file may hold more than is asked for.

    Raises:
      CorruptCheckpoint: the file cannot be read.
      UserError: it lacks a variable, has it in another shape or type or (unless
        `partly`) holds one more. Nothing is restored then, in both cases.
    """
    _assign(variables, _fitting(variables, path, partly=partly))


def _assign(
    variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray]
) -> None:
    slices.assign_at_once([variables[name] for name in values], [*values.values()])


def _is_optional(name: str) -> bool:
    """Whether a run may go on from a checkpoint that has, or lacks, this alone.

    So it is of what belongs to a precision, which may change.
    """
    return name.startswith(loss_scale.PART)


def _fitting(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool = False
) -> dict[str, np.ndarray]:
    """Return a value for every variable, but for optional ones that are not there.

    Errors are those of `restore`.
    """
    faults = _mismatches(variables, path, partly=partly)
    if faults:
        raise UserError(
            f"{path} does not fit this run: {faults[0]}"
            + f" (and {len(faults) - 1} more)" * (len(faults) > 1)
            + "; another model, optimizer or policy wrote it, take another --model_dir"
        )
    if any(map(_is_optional, variables)):
        there = bundle.shapes_and_types(path)
        variables = {name: v for name, v in variables.items() if name in there}
    return bundle.read(path, variables)


def _mismatches(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool
) -> list[str]:
    """Return what tells the variables from those in the file, a line each."""
    none = ("none", "none")
    here = {n: (v.shape.as_list(), v.dtype.name) for n, v in variables.items()}
    there = bundle.shapes_and_types(path)
    names = here.keys() if partly else here.keys() | there.keys()
    names = {n for n in names if not _is_optional(n) or (n in here and n in there)}
    return [
        f"{name} has the {what} {its} there, {ours} here"
        for name in sorted(names)
        for what, its, ours in zip(
            ("shape", "type"), there.get(name, none), here.get(name, none), strict=True
        )
        if its != ours
    ]
