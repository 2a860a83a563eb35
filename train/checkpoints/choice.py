"""The checkpoint that all processes of a run take: each alone might find another."""

from collections.abc import Callable
from typing import TypeVar

from common.errors import Restart, UserError
from train.checkpoints.bundle import CorruptCheckpoint, step
from train.checkpoints.directory import list_checkpoints, load_newest

# What the chief tells the others when it has loaded nothing.
_NONE, _FAILED, _AGAIN = -1, -2, -3

_T = TypeVar("_T")


def load_chosen(
    directory: str,
    load: Callable[[str], _T],
    *,
    broadcast: Callable[[int], int],
    is_chief: bool,
    prefer: Callable[[str], bool] | None = None,
    among: int | None = None,
) -> tuple[str, _T] | None:
    """Load in every process the newest intact checkpoint that the chief finds.

    Args:
      directory: local or gs://, the same in all processes.
      load: see `load_newest`.
      broadcast: returns in every process what the chief calls it with.
      is_chief: whether this process is the one that chooses.
      prefer: see `load_newest`.
      among: likewise.

    Returns:
      As `load_newest`; None in all processes where the chief finds no checkpoint.

    Raises:
      UserError: there are checkpoints but none is intact, what `load` raises else, or a
        process does not see what the chief sees.
      Restart: the storage does not answer now.
    """
    if not is_chief:
        return _follow(directory, load, broadcast(_NONE))
    found = None
    try:
        if list_checkpoints(directory):
            found = load_newest(directory, load, prefer=prefer, among=among)
    except (UserError, Restart) as error:
        # Else the others would wait for ever.
        broadcast(_AGAIN if isinstance(error, Restart) else _FAILED)
        raise
    broadcast(_NONE if found is None else step(found[0]))
    return found


def _follow(
    directory: str, load: Callable[[str], _T], chosen: int
) -> tuple[str, _T] | None:
    if chosen == _FAILED:
        raise UserError(
            f"the chief can restore no checkpoint of {directory}; it says why"
        )
    if chosen == _AGAIN:
        raise Restart(f"the chief cannot read {directory} now; it says why")
    if chosen == _NONE:
        return None
    path = f"{directory}/ckpt-{chosen}"
    try:
        return path, load(path)
    except CorruptCheckpoint as fault:
        raise UserError(
            f"the chief restores {path}, which this process cannot read: "
            f"{fault.reason}; all processes need the same directory"
        ) from fault
