"""Which checkpoints stay."""

from collections.abc import Mapping


def steps_to_keep(
    times: Mapping[int, float], *, keep: int, keep_every_hours: float | None
) -> set[int]:
    """Return the steps of the checkpoints that stay.

    Args:
      times: when each was written, in seconds, by its step.
      keep: how many of the newest stay, at least 1.
      keep_every_hours: beside these, the oldest stays and, from one that stays to the
        next, the first that is so many hours away; None for the newest alone. What
        stays for this reason does so whatever is deleted or written later.
    """
    newest = set(sorted(times)[-keep:])
    if keep_every_hours is None:
        return newest
    return newest.union(_spaced_steps(times, keep_every_hours * 3600))


def _spaced_steps(times: Mapping[int, float], seconds: float) -> list[int]:
    """Return steps written at least so many seconds apart, beginning with the oldest.

    Each depends on the one before alone, so deleting others changes nothing.
    """
    spaced: list[int] = []
    for step in sorted(times):
        # Apart either way: a clock that was wrong once must not end the row.
        if not spaced or abs(times[step] - times[spaced[-1]]) >= seconds:
            spaced.append(step)
    return spaced
