"""The checkpoints of a folder: which there are, which of them is taken."""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from common.console import warn
from common.errors import UserError
from train.checkpoints import bundle
from train.checkpoints.bundle import CorruptCheckpoint, step

BEST = "best"  # in a run's folder: that of the best checkpoint and its scores
EVALUATIONS = "evaluations"  # of the scores that somebody has asked for

_T = TypeVar("_T")


def list_checkpoints(directory: str) -> list[str]:
    """Return the paths of all checkpoints in a folder, newest first, intact or not."""
    steps = sorted(bundle.steps(directory), reverse=True)
    return [f"{directory}/ckpt-{step}" for step in steps]


def at_step(directory: str, wanted: int) -> str:
    """Return the path of the checkpoint of a step, in a run's folder or its best one.

    Raises:
      UserError: it is in neither; says which there are.
    """
    best = f"{directory}/{BEST}"
    paths = [*list_checkpoints(directory), *list_checkpoints(best)]
    for path in paths:
        if step(path) == wanted:
            return path
    steps = [*dict.fromkeys(sorted(map(step, paths)))]
    there = (
        f"there are those of {', '.join(map(str, steps))}" if steps else "nor others"
    )
    raise UserError(
        f"{directory} has no checkpoint of step {wanted}, nor has its {BEST}/: {there}"
    )


def has_begun(directory: str) -> bool:
    """Whether a folder holds the checkpoint of a step, intact or not; 0 is none."""
    return any(step(path) > 0 for path in list_checkpoints(directory))


def newest_intact(directory: str) -> str | None:
    """Return the newest checkpoint that looks intact, None when there is none.

    Its manifest fits its files, but the tensors are not read.
    """
    for path in list_checkpoints(directory):
        with contextlib.suppress(CorruptCheckpoint):
            bundle.read_manifest(path)
            return path
    return None


def load_newest(
    directory: str,
    load: Callable[[str], _T],
    *,
    prefer: Callable[[str], bool] | None = None,
    among: int | None = None,
) -> tuple[str, _T]:
    """Load the newest checkpoint that is intact, and warn of those that are not.

    Args:
      directory: local or gs://.
      load: what is done with a path; it raises CorruptCheckpoint where it finds that.
      prefer: tells of a path whether it comes before those of which this is false;
        None for the newest of all.
      among: how many of the newest `prefer` is asked of: what is older comes last, as
        it may be older by far. None asks it of all.

    Returns:
      The path, and what `load` has returned.

    Raises:
      UserError: there is no checkpoint, none is intact, or what `load` raises else.
      Restart: the storage does not answer now. The older ones are not tried then.
    """
    paths = list_checkpoints(directory)
    if not paths:
        raise without_any(directory)
    if prefer:
        preferred = [path for path in paths[:among] if prefer(path)]
        paths = [*preferred, *(path for path in paths if path not in preferred)]
    faults: list[CorruptCheckpoint] = []
    for path in paths:
        for fault in faults[-1:]:
            warn(
                f"the checkpoint {fault.path} is corrupt ({fault.reason}); "
                f"taking ckpt-{step(path)}"
            )
        try:
            return path, load(path)
        except CorruptCheckpoint as fault:
            faults.append(fault)
    last = max(faults, key=lambda fault: step(fault.path))
    raise UserError(
        f"no checkpoint in {directory} is intact; the newest, {last.path}: "
        f"{last.reason}; copy a good one there, or take another --model_dir "
        "to begin anew"
    )


def without_any(directory: str) -> UserError:
    """Return what there is to say of a folder without checkpoints."""
    return UserError(
        f"no checkpoint in {directory}; train first "
        f"(python -m train.main --mode=train --model_dir={directory} ...)"
    )
