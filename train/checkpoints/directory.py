"""The checkpoints of a folder: which there are, which of them is taken."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from common.console import say
from common.errors import UserError
from train.checkpoints import bundle
from train.checkpoints.bundle import Damaged, record, step

_T = TypeVar("_T")


def candidates(directory: str) -> list[str]:
    """Returns the paths of all checkpoints in a folder, newest first, whole or not."""
    steps = sorted(bundle.steps(directory), reverse=True)
    return [f"{directory}/ckpt-{step}" for step in steps]


def has_begun(directory: str) -> bool:
    """Whether a folder holds the checkpoint of a step, whole or not; 0 is none."""
    return any(step(path) > 0 for path in candidates(directory))


def newest(directory: str) -> str | None:
    """Returns the newest checkpoint that looks whole, None when there is none.

    Its record fits its files, but the tensors are not read.
    """
    return next((path for path, _ in whole(directory)), None)


def take_newest(
    directory: str,
    load: Callable[[str], _T],
    *,
    prefer: Callable[[int], bool] | None = None,
) -> tuple[str, _T] | None:
    """Loads the newest checkpoint that is whole, and warns of those that are not.

    Args:
      directory: which may hold none.
      load: what is done with a path; it raises Damaged where it finds that.
      prefer: tells of a step whether it comes before those of which this is false,
        however new they are; None for the newest of all.

    Returns:
      The path, and what `load` has returned; None if there is no checkpoint at all.

    Raises:
      UserError: there are checkpoints but none is whole, or what `load` raises else.
      Restart: the storage does not answer now. The older ones are not tried then.
    """
    paths = candidates(directory)
    if prefer:
        paths.sort(key=lambda path: not prefer(step(path)))  # and newest first still
    faults: list[Damaged] = []
    for path in paths:
        for fault in faults[-1:]:
            say(
                f"warning: the checkpoint {fault.path} is damaged ({fault.reason}); "
                f"taking ckpt-{step(path)}"
            )
        try:
            return path, load(path)
        except Damaged as fault:
            faults.append(fault)
    if faults:
        last = max(faults, key=lambda fault: step(fault.path))
        raise UserError(
            f"no checkpoint in {directory} is whole; the newest, {last.path}: "
            f"{last.reason}; copy a good one there, or take another --model_dir "
            "to begin anew"
        )
    return None


def take_latest(directory: str, load: Callable[[str], _T]) -> tuple[str, _T]:
    """Returns what `take_newest` does; UserError where there is no checkpoint."""
    found = take_newest(directory, load)
    if found is None:
        raise UserError(
            f"no checkpoint in {directory}; train first "
            f"(python -m train.main --mode=train --model_dir={directory} ...)"
        )
    return found


def latest(directory: str) -> str:
    """Returns `newest`, and warns of damaged ones; UserError when there is none."""
    return take_latest(directory, record)[0]


def whole(directory: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the checkpoints that look whole, newest first, with their records."""
    for path in candidates(directory):
        try:
            found = record(path)
        except Damaged:
            continue
        yield path, found
