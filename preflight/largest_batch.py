"""The largest batch that fits into a device's memory, in few tries."""

from collections.abc import Callable

MULTIPLE = 8  # images of a core: a tile of a TPU's memory has 8 rows
_CLOSE = 1.05  # between the largest that fits and the smallest known not to
_BEYOND = 1.15  # times what fits, at least, while all do
_FARTHEST = 8  # times what was tried, at most, at once
_NEARBY = 1.5  # the same once half of the memory is full


def largest(
    needs: Callable[[int], int | None], first: int, limit: int, *, tries: int = 8
) -> int:
    """Return the largest number of images that is known to fit; 0: not even one does.

    Memory grows about in a line with the images, so a few points on it lead to the end;
    but near the limit the compiler saves what it did not before.

    Args:
      needs: images -> bytes, also where they do not fit; None is unknown, too many.
      first: images that are tried first.
      limit: bytes that there are.
      tries: calls of `needs` at most.
    """
    fits, too_many = 0, None
    known: dict[int, int] = {}
    images = first
    for _ in range(tries):
        size = needs(images)
        if size is not None:
            known[images] = size
        if size is not None and size <= limit:
            fits = max(fits, images)
        else:
            too_many = images if too_many is None else min(too_many, images)
        guess = _guess(known, limit, fits, too_many)
        if guess is None:
            break
        images = guess
    return fits


def _guess(
    known: dict[int, int], limit: int, fits: int, too_many: int | None
) -> int | None:
    """Return what to try next, None when that would tell little."""
    if too_many is not None and too_many <= MULTIPLE:
        return (fits + too_many) // 2 if too_many - fits > 1 else None  # each counts
    if too_many is not None and fits and too_many - fits <= MULTIPLE:
        return None
    if too_many is not None and fits and too_many <= _CLOSE * fits:
        return None
    target = _on_the_line(known, limit)
    if too_many is None:
        # One that does not fit shows where the end is. The line does not: the compiler
        # saves when memory is short, at the price of time, and it becomes flat.
        target = max(target or 0, _BEYOND * fits)
        farthest = _NEARBY if known[fits] > limit / 2 else _FARTHEST
        return _round(min(target, farthest * fits), above=fits)
    middle, gap = (fits + too_many) / 2, too_many - fits
    if target is None or (fits and abs(target - middle) > gap / 4):
        target = middle
    margin = gap / 8  # nothing is known to fit: the line may lead far down
    return _round(min(max(target, fits + margin), too_many - margin), above=fits)


def _on_the_line(known: dict[int, int], limit: int) -> float | None:
    """Return the images at which a line through the nearest points meets the limit."""
    if not known:
        return None
    nearest = sorted(known, key=lambda images: abs(known[images] - limit))[:2]
    if len(nearest) == 1:
        (images,) = nearest
        return images * limit / known[images]
    low, high = sorted(nearest)
    slope = (known[high] - known[low]) / (high - low)
    if slope <= 0:
        return None
    return low + (limit - known[low]) / slope


def _round(images: float, *, above: int) -> int:
    """Return a multiple, the next lower one if that is still above another number."""
    down = int(images) // MULTIPLE * MULTIPLE
    return down if down > above else above // MULTIPLE * MULTIPLE + MULTIPLE
