"""How many classes a batch of training would see, of records in the order they have."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from input_pipeline.records import CHUNK_RECORDS
from input_pipeline.stream import SHUFFLE_BUFFER

BATCH = 256  # images, as the recipes for small machines have it
FAR_LESS = 0.75  # of the classes that a batch of a shuffled order would see
_BUFFERS = 32  # that are drawn


@dataclasses.dataclass(frozen=True)
class BatchClasses:
    """Different classes in a batch, on average.

    Attributes:
      batch: its images; all of a split that has fewer.
      seen: of them, in the order that training makes of the files.
      ideal: likewise, in an order that is shuffled well.
      classes: of which there are images at all.
    """

    batch: int
    seen: float
    ideal: float
    classes: int

    @property
    def is_sorted(self) -> bool:
        """Whether a batch sees far fewer than it should."""
        return self.seen < FAR_LESS * self.ideal


def of_split(shards: Sequence[np.ndarray]) -> BatchClasses:
    """Draw a few of training's shuffle buffers, and count what batches of them hold.

    As `stream` does: a buffer is filled from chunks that are drawn from everywhere, and
    is shuffled. What a batch then holds is drawn from the buffer without replacement,
    of which the average is known.

    Args:
      shards: int[n], the labels of the records of each file, in order.
    """
    labels = np.concatenate(shards)
    batch, size = min(BATCH, len(labels)), min(SHUFFLE_BUFFER, len(labels))
    chunks = [
        chunk
        for shard in shards
        for chunk in np.split(shard, range(CHUNK_RECORDS, len(shard), CHUNK_RECORDS))
    ]
    # RandomState, not default_rng: numpy promises the same numbers in every version.
    random = np.random.RandomState(0)
    seen = []
    for _ in range(_BUFFERS):
        buffer = _fill(chunks, random.permutation(len(chunks)), size)
        seen.append(_distinct(np.unique(buffer, return_counts=True)[1], batch))
    counts = np.unique(labels, return_counts=True)[1]
    return BatchClasses(
        batch, float(np.mean(seen)), _distinct(counts, batch), len(counts)
    )


def _fill(chunks: Sequence[np.ndarray], order: np.ndarray, size: int) -> np.ndarray:
    taken, count = [], 0
    for number in order:
        taken.append(chunks[number])
        count += len(chunks[number])
        if count >= size:
            break
    return np.concatenate(taken)[:size]


def _distinct(counts: np.ndarray, batch: int) -> float:
    """Return how many classes a batch holds on average, drawn without replacement.

    Args:
      counts: int[n], the images of each class, of which there are `batch` or more.
      batch: images.
    """
    total, drawn = counts.sum(), np.arange(batch)
    sizes, classes = np.unique(counts, return_counts=True)
    left = np.clip(total - sizes[:, None] - drawn, 0, None)  # images of other classes
    absent = np.prod(left / (total - drawn), axis=1)
    return float(((1 - absent) * classes).sum())
