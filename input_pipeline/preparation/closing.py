"""The last lines of a preparation: how many images each class of each split has."""

import statistics
from collections.abc import Mapping, Sequence

from common import console
from input_pipeline.preparation.image_folders.folder_names import named

_FEWEST = 3  # classes that are named


def class_lines(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[str]:
    """Return a line for each split that tells whether its classes are what was meant.

    Args:
      names: of the classes.
      counts: images of each class, in the order of the names, by split.
    """
    return [
        console.escaped(f"{split}: {_line(names, of_split)}")
        for split, of_split in counts.items()
    ]


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
    return (
        f"{line} of {least:,} to {most:,} images, median {median}; fewest: "
        + ", ".join(fewest)
    )
