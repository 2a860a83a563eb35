"""The largest batch that fits into a device's memory, in two rounds of compilations.

Memory grows in a line with the images, as long as there is enough. Then the compiler
saves, at the price of time, and up to three times as many fit as the line says. So the
line leads near the end, and where that is, only compilations tell. Those of a round do
not wait for each other: they can run at the same time.
"""

import math
from collections.abc import Callable, Mapping, Sequence

MULTIPLE = 8  # images of a core: a tile of a TPU's memory has 8 rows
TRIES = 4  # in two rounds
_ROUNDS = 2
_MOST_ROUNDS = 4  # as long as what fits is not known even roughly
_ROUGH = 1.6  # between what fits and what does not
_SHORT = 1.15  # between what fits and the end of the line, where memory is short
_CLOSE = 1.05  # between what fits and what does not: that is near enough
# Times what fits by the line of one point, which comes out a little low, and times what
# fits while all does. Of networks whose end is one to three times that of the line, two
# rounds of these miss the least.
_BEYOND = (1.4, 2.5)
_FARTHER = (1.3, 1.7)
_BELOW = 0.97  # times what fits by a point that does not: there memory is in proportion


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
      needs: images of several compilations -> bytes of each, also where they do not
        fit; None is unknown, too many. It is called twice, with two each at most; more
        often only as long as what fits is not known even roughly.
      first: images of which the bytes are known.
      size: these bytes.
      limit: bytes that there are.
      most: images that are tried, at least as many as `first`.
      fixed: bytes of `size` that are no matter of the images.

    Returns:
      0 where nothing is known to fit; None where nothing is known not to.
    """
    known: dict[int, int | None] = {first: size}
    for number in range(_MOST_ROUNDS):
        fits, too_many = _ends(known, limit)
        if number >= _ROUNDS and too_many is not None and too_many <= _ROUGH * fits:
            break
        if fits == most:
            break
        guesses = _guesses(known, limit, fixed, fits, too_many)
        beyond = most + 1 if too_many is None else too_many
        rounded = {_rounded(images, fits, beyond) for images in guesses}
        several = sorted(rounded - known.keys())
        if not several:
            break
        known |= zip(several, needs(several), strict=True)
    return _ends(known, limit)


def _ends(known: Mapping[int, int | None], limit: int) -> tuple[int, int | None]:
    fitting = [n for n, size in known.items() if size is not None and size <= limit]
    fits = max(fitting, default=0)
    return fits, min((n for n in known if n > fits), default=None)


def _guesses(
    known: Mapping[int, int | None],
    limit: int,
    fixed: int,
    fits: int,
    too_many: int | None,
) -> Sequence[float]:
    """Return what to try next; nothing where that would tell little."""
    line = _end_of_line(known, limit, fixed)
    if too_many is None:
        farther = _FARTHER if len(known) > 1 else (1, 1)
        each = zip(_BEYOND, farther, strict=True)
        return [max(line * beyond, fits * times) for beyond, times in each]
    gap = too_many - fits
    if gap == 1 or (fits and too_many > MULTIPLE and gap <= MULTIPLE):
        return []
    size = known[too_many]
    in_proportion = too_many if fits else too_many / 2  # tells nothing
    if size is not None:
        in_proportion = too_many * limit / size
    if not fits:
        if len(known) == 1:
            return [in_proportion, math.sqrt(in_proportion * too_many)]
        guess = min(line, _BELOW * in_proportion)
        return [guess / 4, guess]
    if _near(fits, too_many):
        return []
    return _between(fits, too_many, line, _BELOW * in_proportion)


def _between(
    fits: int, too_many: int, line: float, in_proportion: float
) -> Sequence[float]:
    """Return two points between what fits and what does not.

    Args:
      fits: images.
      too_many: images.
      line: where it ends. What it adds to `fits` may be little, then memory is short
        there already, and the compiler saves.
      in_proportion: what fits by that of `too_many`.
    """
    points: list[float] = []
    if not _near(fits, line, _SHORT) and not _near(line, too_many):
        points.append(line)
    others = (fits, too_many, *points)
    if fits < in_proportion and not any(_close(in_proportion, one) for one in others):
        points.append(in_proportion)
    if not points:
        return [
            fits ** (2 / 3) * too_many ** (1 / 3),
            fits ** (1 / 3) * too_many ** (2 / 3),
        ]
    if len(points) == 1:
        points.append(math.sqrt(points[0] * too_many))
    return points


def _near(low: float, high: float, close: float = _CLOSE) -> bool:
    """Return whether the second is not much above the first, or is even below it."""
    return high <= close * low


def _close(one: float, other: float) -> bool:
    """Return whether two differ by little, whichever is the larger."""
    return _near(min(one, other), max(one, other))


def _end_of_line(known: Mapping[int, int | None], limit: int, fixed: int) -> float:
    """Return the images at which a line through the smallest points meets the limit.

    Through those that fit, if any does: in others the compiler has saved. Of points
    without a slope it is infinite.
    """
    sized = sorted((n, size) for n, size in known.items() if size is not None)
    points = ([one for one in sized if one[1] <= limit] or sized)[:2]
    if len(points) == 1:
        points.insert(0, (0, fixed))
    (low, less), (high, more) = points
    if more <= less:
        return math.inf
    return low + (high - low) * (limit - less) / (more - less)


def _rounded(images: float, fits: int, beyond: int) -> int:
    """Return a multiple between two numbers, or any whole number where few count."""
    images = min(images, beyond - 1)
    step = MULTIPLE if images >= MULTIPLE else 1
    down = math.floor(images / step) * step
    if down > fits:
        return down
    return min((fits // step + 1) * step, beyond - 1)
