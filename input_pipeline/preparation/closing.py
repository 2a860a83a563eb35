"""The last lines of a preparation: how many images each class of each split has."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from common import console
from common.console import named

_FEWEST = 3  # classes that are named
_TRAIN = "train"


def class_lines(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[str]:
    """Return a line for each split that tells whether its classes are what was meant.

    Args:
      names: of the classes.
      counts: images of each class, in the order of the names, by split.
    """
    lines = [f"{split}: {_line(names, of_split)}" for split, of_split in counts.items()]
    return [console.escaped(line) for line in (*lines, *_odd(names, counts))]


def _odd(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield what scores of a split would not tell."""
    for split, of_split in counts.items():
        there = [name for name, count in zip(names, of_split, strict=True) if count]
        if len(there) == 1 < len(names) and sum(of_split) > 1:
            yield (
                f"all images of {split} are of one class, {named(there)}: are the "
                "others missing?"
            )
        if split == _TRAIN or _TRAIN not in counts:
            continue
        untrained = [
            name
            for name, count, trained in zip(
                names, of_split, counts[_TRAIN], strict=True
            )
            if count and not trained
        ]
        if untrained:
            yield (
                f"{split} has images of what {_TRAIN} has none of ({named(untrained)})"
                ": no run can learn to tell them"
            )


def _line(names: Sequence[str], counts: Sequence[int]) -> str:
    there = [count for count in counts if count]
    line = console.count(len(there), "class", "classes")
    if len(there) < len(names):
        missing = [name for name, count in zip(names, counts, strict=True) if not count]
        line = f"{len(there):,} of {len(names):,} classes (none of {named(missing)})"
    if not there:
        return line
    least, most = min(there), max(there)
    if least == most:
        return f"{line}, each of {console.count(least, 'image')}"
    median = f"{statistics.median(there):,}".removesuffix(".0")
    order = sorted(range(len(names)), key=lambda label: (counts[label], label))
    fewest = [f"{names[i]} {counts[i]:,}" for i in order if counts[i]][:_FEWEST]
    line += f" of {least:,} to {most:,} images, median {median}; fewest: "
    line += ", ".join(fewest)
    largest = max(order, key=lambda label: counts[label])
    if len(there) > _FEWEST:
        line += f"; most: {names[largest]} {most:,}"
    return line
