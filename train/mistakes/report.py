"""What there is to say of an evaluation's mistakes: counted, named, and the worst."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from common.console import escaped
from train.mistakes import confusion
from train.mistakes.confusion import Class, Confusion
from train.mistakes.outcomes import NOTHING, Outcomes
from train.mistakes.pictures import Picture

# What summary.json has at most, whatever the number of classes: about 200 kB.
MOST_CLASSES = 1000
MOST_CONFUSIONS = 100
MATRIX_CLASSES = 20  # a larger matrix nobody reads


@dataclasses.dataclass(frozen=True)
class Guess:
    """A class that the network thinks of, and its probability."""

    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
      name: of its class.
      number: of its class.
      predicted: the class that it was taken for.
      guesses: the likeliest classes, the first one first.
      picture: of it; None where nobody knows its record.
    """

    name: str
    number: int
    predicted: str
    guesses: Sequence[Guess]
    picture: Picture | None


@dataclasses.dataclass(frozen=True)
class Report:
    """The mistakes of an evaluation.

    Attributes:
      scores: of the evaluation, as summary.json has them.
      network: what was scored, in words.
      classes: all of them in their order, by their numbers.
      confusions: what was taken for what, the most frequent first.
      worst: the surest mistakes, the surest first.
      names: of the classes, by their numbers.
    """

    scores: Mapping[str, Any]
    network: str
    classes: Sequence[Class]
    confusions: Sequence[Confusion]
    worst: Sequence[Mistake]
    names: "Names"

    @property
    def images(self) -> int:
        """How many were scored."""
        return sum(one.images for one in self.classes)

    @property
    def wrong(self) -> int:
        """How many were taken for another class."""
        return self.images - sum(one.right for one in self.classes)

    def line(self, where: str) -> str:
        """Return what a person reads at the end of a run.

        Args:
          where: the page, or why there is none.
        """
        number = f"{self.wrong:,}" if self.wrong else "none"
        text = f"mistakes: {number} of {self.images:,} wrong"
        for one in self.confusions[:1]:
            name, other = self.names[one.name], self.names[one.predicted]
            text += f", most often {name} taken for {other} ({one.images:,})"
        return escaped(f"{text}: {where}")

    def summary(self, page: str | None) -> dict[str, Any]:
        """Return what summary.json says of the mistakes.

        Args:
          page: name of the page in the run's folder; None where it is not there.
        """
        return {
            "page": page,
            "images": self.images,
            "right": self.images - self.wrong,
            "wrong": self.wrong,
            "classes": [self._of_class(one) for one in self.shown_classes()],
            "confusions": [
                {
                    "class": self.names[one.name],
                    "predicted": self.names[one.predicted],
                    "images": one.images,
                }
                for one in self.confusions[:MOST_CONFUSIONS]
            ],
            "confusion_matrix": self._matrix(),
            "worst": [_of_mistake(one) for one in self.worst],
        }

    def shown_classes(self) -> list[Class]:
        """Return the classes in their order: of too many, the worst ones."""
        if len(self.classes) <= MOST_CLASSES:
            return list(self.classes)
        worst = confusion.worst_first(self.classes)[:MOST_CLASSES]
        return sorted(worst, key=lambda one: one.name)

    def matrix_classes(self) -> list[Class]:
        """Return the classes of a matrix that can be read, in their order.

        Of too many, those that have the most to do with mistakes.
        """
        if len(self.classes) <= MATRIX_CLASSES:
            return list(self.classes)
        wrong: collections.Counter[int] = collections.Counter()
        for one in self.confusions:
            wrong[one.name] += one.images
            wrong[one.predicted] += one.images
        ranked = sorted(self.classes, key=lambda one: (-wrong[one.name], one.name))
        return sorted(ranked[:MATRIX_CLASSES], key=lambda one: one.name)

    def other_columns(self) -> list[int]:
        """Return what images were taken for and no image can be of, in order."""
        known = {one.name for one in self.classes}
        return sorted({one.predicted for one in self.confusions} - known)

    def _of_class(self, one: Class) -> dict[str, Any]:
        return {
            "class": self.names[one.name],
            "images": one.images,
            "right": one.right,
            "accuracy": one.accuracy,
            "precision": one.precision,
        }

    def _matrix(self) -> dict[str, Any] | None:
        if len(self.classes) > MATRIX_CLASSES:
            return None
        columns = [one.name for one in self.classes]
        columns += self.other_columns()[:MATRIX_CLASSES]
        return {
            "labels": [self.names[one.name] for one in self.classes],
            "predicted": [self.names[number] for number in columns],
            "counts": confusion.matrix(self.classes, columns),
        }


def _of_mistake(one: Mistake) -> dict[str, Any]:
    known = one.picture
    return {
        "record": known.record if known else None,
        "file": (known.file if known else None) or None,
        "class": one.name,
        "predicted": one.predicted,
        "top": [
            {"class": guess.name, "probability": guess.probability}
            for guess in one.guesses
        ],
    }


class Names(Mapping[int, str]):
    """Of classes, by their numbers; two of one name are told apart by them."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._twice = {
            n for n, times in collections.Counter(names).items() if times > 1
        }

    def __getitem__(self, number: int) -> str:
        if number == NOTHING:
            return "nothing: not a number"
        if number >= len(self._names):
            return f"class {number}"  # an output that no class of the data has
        name = self._names[number]
        return f"{name} (class {number})" if name in self._twice else name

    def __iter__(self):
        return iter(range(len(self._names)))

    def __len__(self):
        return len(self._names)


def make(
    outcomes: Outcomes,
    label_names: Sequence[str],
    scores: Mapping[str, Any],
    *,
    network: str,
    chosen: Sequence[int],
    pictures: Sequence[Picture | None],
) -> Report:
    """Put together what there is to say.

    Args:
      outcomes: of the evaluation.
      label_names: of the classes.
      scores: of the same evaluation.
      network: what was scored, in words.
      chosen: indices of the mistakes to show, see `Outcomes.worst`.
      pictures: of these.
    """
    names = Names(label_names)
    classes = confusion.classes(outcomes.counts(), names)
    worst = [
        Mistake(
            names[int(outcomes.label[index])],
            int(outcomes.label[index]),
            names[int(outcomes.predicted[index])],
            _guesses(outcomes, index, names),
            picture,
        )
        for index, picture in zip(chosen, pictures, strict=True)
    ]
    found = confusion.confusions(classes)
    return Report(scores, network, classes, found, worst, names)


def _guesses(outcomes: Outcomes, index: int, names: Names) -> list[Guess]:
    return [
        Guess(names[number], share)
        for number, share in zip(
            outcomes.guesses[index].tolist(),
            outcomes.probabilities[index].tolist(),
            strict=True,
        )
        if number != NOTHING
    ]
