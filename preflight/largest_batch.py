"""The largest batch that fits into a device's memory, looked for from above.

That a step does not fit, the compiler says in seconds, before it makes a program; one
that fits takes it minutes. So the search comes down from what is far too much, and few
of its steps fit. Memory grows in a line with the images, until it is short; then the
compiler saves, at the price of time, and up to three times as many fit as the line
says. Beyond, what is needed grows faster than the images: in proportion to what does
not fit, a smaller batch does.
"""

import math
from collections.abc import Callable, Mapping, Sequence

MULTIPLE = 8  # images of a core: a tile of a TPU's memory has 8 rows
_ROUNDS = 8
_CLOSE = 1.1  # between what fits and what does not: that is near enough
_CLOSE_ENOUGH = 1.25  # the same, where to look closer means to compile what fits, again
_BEYOND = 4.0  # times what fits by the line, or what does, while all does
_STEPS = (0.3, 0.6)  # down from what does not fit to what should, as logarithms go
_BELOW = 0.985  # times what should fit


def largest(
    needs: Callable[[Sequence[int]], Sequence[int | None]],
    first: int,
    size: int,
    limit: int,
    *,
    most: int,
    fixed: int = 0,
) -> tuple[int, int | None]:
    """Return the most images that are known to fit, and the fewest that do not.

    Args:
      needs: images of one or two compilations, which may run at the same time -> bytes
        of each, also where they do not fit; None is unknown, too many.
      first: images of which the bytes are known.
      size: these bytes.
      limit: bytes that there are.
      most: images that are tried, at least as many as `first`.
      fixed: bytes of `size` that are no matter of the images.

    Returns:
      0 where nothing is known to fit; None where nothing is known not to.
    """
    known: dict[int, int | None] = {first: size}
    line = first * (limit - fixed) / max(1, size - fixed)
    for number in range(_ROUNDS):
        fits, too_many = _ends(known, limit)
        if fits == most or _near_enough(fits, too_many, compiled=fits != first):
            break
        guesses = [_BEYOND * max(line, fits)]
        if too_many is not None:
            guesses = _below(fits, too_many, known[too_many], limit)
            if not fits and number > 1:  # what is fixed may be too much by itself
                guesses[0] = guesses[-1] / 4
        beyond = most + 1 if too_many is None else too_many
        several = sorted({_rounded(images, fits, beyond) for images in guesses})
        known |= zip(several, needs(several), strict=True)
    return _ends(known, limit)


def _ends(known: Mapping[int, int | None], limit: int) -> tuple[int, int | None]:
    fitting = [n for n, size in known.items() if size is not None and size <= limit]
    fits = max(fitting, default=0)
    return fits, min((n for n in known if n > fits), default=None)


def _near_enough(fits: int, too_many: int | None, *, compiled: bool) -> bool:
    """Return whether another round would tell little.

    Args:
      fits: images.
      too_many: images.
      compiled: whether something was that fits, for the search.
    """
    if too_many is None:
        return False
    if too_many <= MULTIPLE or not fits:
        return too_many - fits == 1  # each counts
    close = _CLOSE_ENOUGH if compiled else _CLOSE
    return too_many - fits <= MULTIPLE or too_many <= close * fits


def _below(fits: int, too_many: int, size: int | None, limit: int) -> list[float]:
    """Return what to try next below what does not fit.

    Args:
      fits: images.
      too_many: images.
      size: bytes of these; None is unknown.
      limit: bytes.
    """
    excess = 2.0 if size is None else size / limit
    should_fit = max(fits, too_many / excess)
    way = too_many / should_fit
    if way <= _CLOSE and should_fit > fits:
        return [math.sqrt(should_fit * too_many), _BELOW * should_fit]
    return [too_many / way**step for step in _STEPS]


def _rounded(images: float, fits: int, beyond: int) -> int:
    """Return a multiple between two numbers, or any whole number where few count."""
    images = min(images, beyond - 1)
    step = MULTIPLE if images >= MULTIPLE else 1
    down = math.floor(images / step) * step
    if down > fits:
        return down
    return min((fits // step + 1) * step, beyond - 1)
