"""What a search maximises: one number from accuracy and latency.

Imports no framework. Accuracies come in per cent, as everywhere in this room; the
formulas have them as a share, Q. T is the latency of a batch, T0 the target's, both in
ms. An objective is a trade: `exchange_rate` says in words what one point of top-1 buys.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from common import checks
from common.errors import UserError

_Number = Any  # a number, or an array or a tensor of them


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A value of (top-1 in %, ms), higher is better.

    Attributes:
      target_ms: T0, milliseconds of a batch.
    """

    target_ms: float

    rules: ClassVar[Mapping[str, checks.Rule]] = {"target_ms": checks.positive(10**9)}

    def __post_init__(self):
        checks.require_fields(self)

    def __call__(self, top1: float, ms: float) -> float:
        """Return the value of a network.

        Raises:
          UserError: top-1 is not from 0 to 100 %, or ms not finite and above 0, or the
            value is too large for a number.
        """
        share, ratio = self._share(top1), self._ratio(ms)
        try:
            value = self.formula(share, ratio)
        except ArithmeticError:  # too large, or T / T0 too small
            value = math.inf
        if not math.isfinite(value):
            raise UserError(f"{self}: no number for {top1!r} % in {ms!r} ms")
        return value

    def rate(self, top1: float, ms: float, *, below: bool | None = None) -> float:
        """Return how many per cent of latency a point of top-1 buys at this point.

        It is -d ln T / dQ along equal values, from the formula's derivatives.

        Args:
          top1: in %, above 0.
          ms: of a batch.
          below: of the formula at the target, where it has a kink: the side of faster
            networks. None is the side on which ms lies, the slower one for the target.

        Returns:
          inf where latency counts for nothing; below 0 where being faster costs.
        """
        share, ratio = self._share(top1), self._ratio(ms)
        if below is None:
            below = ratio < 1
        cost = -self._slope(share, ratio, below)
        return math.inf if cost == 0 else 100 * 0.01 / cost

    def exchange_rate(self, top1: float, ms: float) -> str:
        """Return `rate` as a sentence; at the target both sides, if they differ."""
        rate = self.rate(top1, ms)
        where = "below" if ms < self.target_ms else "above"
        faster = self.rate(top1, ms, below=True)
        if ms != self.target_ms or faster == rate:
            where = f" {where} the target" if ms != self.target_ms else ""
            return f"At {top1:.4g} % and {ms:.4g} ms{where}, {_words(rate)}."
        return (
            f"At {top1:.4g} % and the target of {ms:.4g} ms, {_words(rate)} if slower; "
            f"if faster, {_words(faster)}."
        )

    @abc.abstractmethod
    def formula(
        self, share: _Number, ratio: _Number, maximum: Callable = max
    ) -> _Number:
        """Return the value at Q and T / T0, unchecked.

        Args:
          share: Q, in [0, 1]; a number, an array, or a tensor of any framework.
          ratio: T / T0, of the same kind.
          maximum: of a number and such a thing, element by element.
        """

    @abc.abstractmethod
    def _slope(self, share: float, ratio: float, below: bool) -> float:
        """Return (dV / d ln T) / (dV / dQ) at Q and T / T0, below T0 or above."""

    def _share(self, top1: float) -> float:
        if not (checks.is_number(top1) and 0 <= top1 <= 100):
            raise UserError(f"{top1!r} is no top-1 in %, from 0 to 100")
        return top1 / 100

    def _ratio(self, ms: float) -> float:
        if not (checks.is_number(ms) and 0 < ms < math.inf):
            raise UserError(f"{ms!r} is no latency in ms, above 0")
        return ms / self.target_ms


_NEGATIVE = checks.number(lambda x: -1000 <= x < 0, "from -1,000 to below 0")


@dataclasses.dataclass(frozen=True)
class Product(Objective):
    """Q x (T / T0)^w: MnasNet (CVPR 2019, section 3) and EfficientNet-X.

    The networks that it prefers have their latency anywhere near T0, not at it.

    Attributes:
      exponent: w, below 0.
    """

    exponent: float = -0.07

    rules: ClassVar = {**Objective.rules, "exponent": _NEGATIVE}

    def formula(
        self, share: _Number, ratio: _Number, maximum: Callable = max
    ) -> _Number:
        """Return the formula's value, see `Objective.formula`."""
        return share * ratio**self.exponent

    def _slope(self, share: float, ratio: float, below: bool) -> float:
        return self.exponent * share


@dataclasses.dataclass(frozen=True)
class HardProduct(Product):
    """Q x min(1, (T / T0)^w): `Product` above the target, Q alone below it.

    MnasNet's form with alpha = 0 and beta = w (CVPR 2019, section 3).
    """

    def formula(
        self, share: _Number, ratio: _Number, maximum: Callable = max
    ) -> _Number:
        """Return the formula's value, see `Objective.formula`."""
        return super().formula(share, maximum(1.0, ratio))

    def _slope(self, share: float, ratio: float, below: bool) -> float:
        return 0.0 if below else super()._slope(share, ratio, below)


@dataclasses.dataclass(frozen=True)
class Absolute(Objective):
    """Q + b |T / T0 - 1|, b below 0: TuNAS (arXiv 2008.06120).

    It draws the latency to T0 from both sides: being faster costs as much.

    Attributes:
      slope: b; -0.10 in TuNAS' code.
    """

    slope: float = -0.10

    rules: ClassVar = {**Objective.rules, "slope": _NEGATIVE}

    def formula(
        self, share: _Number, ratio: _Number, maximum: Callable = max
    ) -> _Number:
        """Return the formula's value, see `Objective.formula`."""
        return share + self.slope * abs(ratio - 1)

    def _slope(self, share: float, ratio: float, below: bool) -> float:
        return self.slope * ratio * (-1 if below else 1)


@dataclasses.dataclass(frozen=True)
class OneSided(Objective):
    """Q - b max(0, T / T0 - 1), b above 0: H2O-NAS (ASPLOS 2023).

    The formula is recalled, not checked against a copy of that paper; b is ours.

    Attributes:
      penalty: b, for each 100 % above the target.
    """

    penalty: float = 0.10

    rules: ClassVar = {**Objective.rules, "penalty": checks.positive(1000)}

    def formula(
        self, share: _Number, ratio: _Number, maximum: Callable = max
    ) -> _Number:
        """Return the formula's value, see `Objective.formula`."""
        return share - self.penalty * maximum(0.0, ratio - 1)

    def _slope(self, share: float, ratio: float, below: bool) -> float:
        return 0.0 if below else -self.penalty * ratio


def _words(rate: float) -> str:
    if math.isinf(rate):
        return "latency counts for nothing"
    if rate < 0:
        return f"1 point of top-1 makes up for being {-rate:.3g} % faster, which costs"
    return f"1 point of top-1 buys {rate:.3g} % of latency"
