"""Which networks to ask for, so that sums of unknown parts are known of all others.

A network's latency is a sum over its parts, and each part is an unknown. A question,
one network, is an equation: how often it has each part. What a system of equations
spans is exact arithmetic on fractions, so that no tolerance decides whether a network
has to be asked for. Imports no framework.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

Counts = Mapping[int, int]  # how often a network has each part, by the part's number


@dataclasses.dataclass(frozen=True)
class _Step:
    """How an equation was made from its question and the equations before it."""

    row: dict[int, Fraction]  # 1 at its pivot, its largest number
    used: list[tuple[int, Fraction]]
    scale: Fraction


class Equations:
    """A growing set of independent equations.

    Parts that no network has one without the other cannot be told apart, and need not.
    """

    def __init__(self):
        self._steps: dict[int, _Step] = {}  # by pivot, in the order of the questions

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, counts: Counts) -> bool:
        """Take an equation in; False where those before it say as much.

        Args:
          counts: of a network.
        """
        row = {part: Fraction(count) for part, count in counts.items() if count}
        used: list[tuple[int, Fraction]] = []
        pivot = -1
        pending = sorted(row, reverse=True)
        while pending:
            part = pending.pop(0)
            factor = row.get(part)
            if not factor:
                continue
            step = self._steps.get(part)
            if step is None:
                pivot = max(pivot, part)
                continue
            used.append((part, factor))
            for other, value in step.row.items():
                new = row.get(other, Fraction(0)) - factor * value
                if other not in row and other < part:
                    pending.append(other)
                row[other] = new
            pending.sort(reverse=True)
        if pivot < 0:
            return False
        scale = row[pivot]
        row = {part: value / scale for part, value in row.items() if value}
        self._steps[pivot] = _Step(row, used, scale)
        return True

    def solve(self, answers: Sequence[float]) -> dict[int, float]:
        """Return what each part costs; 0 of one that the others account for.

        Args:
          answers: of the questions for which `add` was true, in their order.
        """
        sides: dict[int, float] = {}
        for (pivot, step), answer in zip(self._steps.items(), answers, strict=True):
            known = sum(float(factor) * sides[part] for part, factor in step.used)
            sides[pivot] = (answer - known) / float(step.scale)
        costs: dict[int, float] = {}
        for pivot in sorted(self._steps):
            others = self._steps[pivot].row.items()
            costs[pivot] = sides[pivot] - sum(
                float(value) * costs.get(part, 0.0)
                for part, value in others
                if part != pivot
            )
        return costs
