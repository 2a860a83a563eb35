"""The classes that TFRecords of others have: the first one's label, and all names."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from common.console import escaped
from input_pipeline.errors import DataError
from input_pipeline.preparation import class_names
from input_pipeline.preparation.record_survey import Survey, Surveys

NO_LABEL = -1  # as TensorFlow Datasets has it in test sets
_MOST_CLASSES = 1_000_000  # more are no classes, but numbers of images


@dataclasses.dataclass(frozen=True)
class GivenNames:
    """What somebody has said of the classes.

    Attributes:
      offset: the label of the first one.
      given: the names; None where there are none.
      path: of their file.
      notes: is told what has been left out of them.
    """

    offset: int
    given: tuple[str, ...] | None
    path: str
    notes: list[str]

    def of_classes(self, surveys: Surveys, folder: str) -> tuple[str, ...]:
        """Return a name for each class; a DataError where the labels do not fit."""
        every = [one for of_split in surveys.values() for one in of_split]
        seen = {label for one in every for label in one.counts}
        labels = range(self.offset, max(self.offset, *seen) + 1)
        _check_numbers(every, labels, folder)
        given = self.given and class_names.for_labels(
            self.given, labels, self.path, self.notes.append
        )
        _check_range(seen, self.offset, given)
        return given or _names(every, labels)


def _check_numbers(surveys: Sequence[Survey], labels: range, folder: str) -> None:
    """Raise a DataError where labels number no classes."""
    for one in surveys:
        path = tf.io.gfile.join(folder, one.shard.filename)
        if (least := min(one.counts)) < 0:
            raise DataError(
                f"{path} holds the label {least}, and below 0 is no class "
                f"({NO_LABEL} often says that there is none): leave such records out"
            )
        if len(labels) > _MOST_CLASSES and max(one.counts) == labels[-1]:
            raise DataError(
                f"{path} holds the label {labels[-1]:,}, which numbers no class, but "
                "an image perhaps: name another field with --label_field, or write the "
                "records again with classes from 0 on"
            )


def _check_range(seen: set[int], offset: int, names: Sequence[str] | None) -> None:
    """Raise a DataError if a label is outside; it says which offset would do."""
    least, most = min(seen), max(seen)
    last = most if names is None else offset + len(names) - 1
    if offset <= least and most <= last:
        return
    classes = f"{offset} and up" if names is None else f"{offset} to {last}"
    fits = names is None or most - least < len(names)
    advice = f"--label_offset {least}" if fits else "a file of more names to --labels"
    raise DataError(
        f"the records hold labels {least} to {most}, but --label_offset {offset} "
        f"allows {classes}: give {advice}"
    )


def _names(surveys: Sequence[Survey], labels: range) -> tuple[str, ...]:
    """Return the records' texts or synsets, if each label has one; else the labels."""
    texts, synsets = (
        _merged(of_file)
        for of_file in ([s.texts for s in surveys], [s.synsets for s in surveys])
    )
    for words in (texts, synsets):
        if all(
            len(of_label) == 1 and "" not in of_label for of_label in words.values()
        ):
            found = [min(words.get(label, {str(label)})) for label in labels]
            return _distinct([escaped(name) for name in found], labels, synsets)
    return tuple(str(label) for label in labels)


def _merged(words: Sequence[Mapping[int, frozenset[str]]]) -> dict[int, set[str]]:
    merged: dict[int, set[str]] = {}
    for label, of_label in (item for of_file in words for item in of_file.items()):
        merged.setdefault(label, set()).update(of_label)
    return merged


def _distinct(
    names: Sequence[str], labels: range, synsets: Mapping[int, set[str]]
) -> tuple[str, ...]:
    """Return the names, with more where two are equal: ImageNet has cranes twice."""
    counts = collections.Counter(names)
    numbers = [str(label) for label in labels]
    words = [" ".join(sorted(synsets.get(label, ()))) for label in labels]
    for more in (words, numbers):
        found = tuple(
            name if counts[name] == 1 else f"{name} ({escaped(which)})"
            for name, which in zip(names, more, strict=True)
        )
        if len(set(found)) == len(found) and all(more):
            return found
    return tuple(numbers)
