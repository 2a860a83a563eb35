"""Which checkpoints stay."""

from collections.abc import Mapping


def kept(
    times: Mapping[int, float], *, keep: int, keep_every_hours: float | None
) -> set[int]:
    """Returns the steps of the checkpoints that stay.

    Args:
      times: when each was written, in seconds, by its step.
      keep: how many of the newest stay, at least 1.
      keep_every_hours: beside these, the oldest stays and, from one that stays to the
        next, the first that is so many hours away; None for the newest alone. What
        stays for this reason does so whatever is deleted or written later.
    """
    newest = sorted(times)[-keep:]
    ladder = [] if keep_every_hours is None else _ladder(times, keep_every_hours * 3600)
    return {*newest, *ladder}


def _ladder(times: Mapping[int, float], seconds: float) -> list[int]:
    """Returns steps written at least so many seconds apart, beginning with the oldest.

    Each depends on the one before alone, so deleting others changes nothing.
    """
    rungs: list[int] = []
    for step in sorted(times):
        # Apart either way: a clock that was wrong once must not end the ladder.
        if not rungs or abs(times[step] - times[rungs[-1]]) >= seconds:
            rungs.append(step)
    return rungs
