"""Which classes are taken for which: of an evaluation, and of photos classified.

The standard library alone, so that a command may import it before its flags are read.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Class(NamedTuple):
    """How the images of a class were classified.

    Attributes:
      name: of the class, or its number.
      predicted: how many of its images were taken for which.
      taken: how many of all images were taken for it.
    """

    name: Any
    predicted: collections.Counter[Any]
    taken: int

    @property
    def images(self) -> int:
        """How many there are."""
        return self.predicted.total()

    @property
    def right(self) -> int:
        """How many were recognised."""
        return self.predicted[self.name]

    @property
    def accuracy(self) -> float | None:
        """The share of its images that were recognised; None where it has none."""
        return self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share that is right of what was taken for it; None where nothing was."""
        return self.right / self.taken if self.taken else None

    def wrong(self) -> list[tuple[Any, int]]:
        """Return what its images were wrongly taken for, the most frequent first."""
        others = [(name, n) for name, n in self.predicted.items() if name != self.name]
        return sorted(others, key=lambda one: -one[1])


class Confusion(NamedTuple):
    """So many images of one class that were taken for another."""

    name: Any
    predicted: Any
    images: int


def classes(counts: Mapping[tuple[Any, Any], int], order: Iterable[Any]) -> list[Class]:
    """Return how each class was classified.

    Args:
      counts: images by their class and the one that they were taken for.
      order: the classes that are known, in their order. Others come behind them.
    """
    predicted: dict[Any, collections.Counter[Any]] = {}
    taken: collections.Counter[Any] = collections.Counter()
    for (label, guess), images in counts.items():
        predicted.setdefault(label, collections.Counter())[guess] += images
        taken[guess] += images
    every = dict.fromkeys([*order, *predicted])
    nothing: collections.Counter[Any] = collections.Counter()
    return [Class(one, predicted.get(one, nothing), taken[one]) for one in every]


def worst_first(found: Iterable[Class]) -> list[Class]:
    """Return the classes that have images, those with the fewest right first."""
    return sorted(
        (one for one in found if one.images), key=lambda one: one.right / one.images
    )


def confusions(found: Sequence[Class]) -> list[Confusion]:
    """Return what was taken for what, the most frequent first; then by the classes."""
    order = {one.name: place for place, one in enumerate(found)}
    every = [
        Confusion(one.name, other, images)
        for one in found
        for other, images in one.wrong()
    ]

    def rank(one: Confusion) -> tuple[int, int, int]:
        return -one.images, order[one.name], order.get(one.predicted, len(order))

    return sorted(every, key=rank)


def matrix(rows: Sequence[Class], columns: Sequence[Any]) -> list[list[int]]:
    """Return how many images of each row's class were taken for each column's."""
    return [[row.predicted[column] for column in columns] for row in rows]
