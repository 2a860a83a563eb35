"""A part of the code, asked to handle more and more of something."""

import dataclasses
import gc
import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Handles what was made up. What it returns counts work that is no time: bytes written.
Handle = Callable[[], int | None]
# Returns what handles so many of something; may write to an empty folder of its own.
Make = Callable[[int, Path], Handle]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured in several sizes.

    Attributes:
      name: what is done, for a person.
      axis: what there is more and more of.
      sizes: how many, ascending; the last two decide nothing alone, see `exponent`.
      make: makes the data, which is not measured.
      times: how often that is done in the life of a run or a search with so many: once,
        or "each", for each of them.
      work: what the handle counts, as "bytes written".
    """

    name: str
    axis: str
    sizes: tuple[int, ...]
    make: Make
    times: str = "once"
    work: str | None = None


def measure(case: Case, folder: Path, most_seconds: float) -> dict[str, Any]:
    """Return what a case costs, by its sizes.

    A size is left out, and those behind it, where the one before took so long that it
    would take more than `most_seconds` if it were linear; the first two are measured.
    """
    _row(case, case.sizes[0], _new(folder / "before"))  # imports, and fills caches
    rows: list[dict[str, Any]] = []
    for size in case.sizes:
        if len(rows) > 1:
            before = rows[-1]
            more = 1 if case.times == "each" else size / before["size"]
            if before["seconds"] * more > most_seconds:
                break
        rows.append(_row(case, size, _new(folder / f"{len(rows)}")))
    sizes = [row["size"] for row in rows]
    each = 1.0 if case.times == "each" else 0.0
    found = {
        "name": case.name,
        "axis": case.axis,
        "times": case.times,
        "rows": rows,
        "exponent": exponent(sizes, [row["seconds"] for row in rows]) + each,
        "exponent_of_memory": exponent(sizes, [row["megabytes"] for row in rows]),
    }
    if case.work:
        found["work"] = case.work
        found["exponent_of_work"] = exponent(sizes, [row["work"] for row in rows])
    return found


def _row(case: Case, size: int, folder: Path) -> dict[str, Any]:
    """Return seconds of CPU, the shortest of some, and the most memory of another."""
    seconds, work, begin = [], None, time.process_time()
    while len(seconds) < 5 and (not seconds or time.process_time() - begin < 0.5):
        handle = case.make(size, _new(folder / f"time-{len(seconds)}"))
        gc.collect()
        before = time.process_time()
        work = handle()
        seconds.append(time.process_time() - before)
    handle = case.make(size, _new(folder / "memory"))
    tracemalloc.start()
    try:
        handle()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return {
        "size": size,
        "seconds": min(seconds),
        "megabytes": most / 1e6,
        **({} if work is None else {"work": work}),
    }


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return p of a cost that grows as size^p, where the sizes are large.

    Fitted by least squares to the logarithms of the sizes of the last factor of 100: a
    part that every size costs would hide the growth in small ones.

    Args:
      sizes: ascending, two or more.
      costs: of each; above 0, else they count as a millionth of the largest.
    """
    last = [n for n, size in enumerate(sizes) if size * 100 >= sizes[-1]]
    least = max(costs) / 1e6 or 1.0
    x = [math.log(sizes[n]) for n in last]
    y = [math.log(max(costs[n], least)) for n in last]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)
