"""A latency model of a few coefficients, fitted to whole compiled networks.

A network's milliseconds are taken to be a weighted sum of what its layers fill of a
TPU's tiles, see `tile_features`, all weights 0 or larger. What is in no feature the
weights carry, which is why only networks that have squeeze-and-excite in every
block are in the model's domain.

The fit is least squares of relative errors. Its error is the leave-one-out one: each
network predicted by the fit to all others. With all networks of one base left out it is
50 % (EfficientNet by EfficientNet-X). So the model answers for networks alone that are
scaled from a base of which the fit has three: compile as many of another, and refit.
Imports no framework.
"""

import collections
import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from common.errors import UserError
from models.errors import ModelError
from models.variants import Variant
from search.latencies.latency_table import OF_WHOLES, LatencyTable, NetworkRow
from search.latencies.tile_features import (
    FEATURES,
    Array,
    Layout,
    kind_of,
    layout_key,
    why_outside,
)
from search.results import Estimate

# The sets of features that a fit may take: that with the smaller leave-one-out error.
# The first was chosen among some 1,500 sets of two to five features by that error of 21
# networks on v3; the second among some 92,000 sets of two to four of 39 features by
# that of 25 networks on v5e, of the best dozen the one whose features mean most; the
# third is the best of the 35 sets of four of these features on v6e's 21 networks, whose
# matrix unit is too fast to count. What such a choice is worth is shown, too, by
# benchmarks.tpu.tile_model, which leaves it out.
SETS = (
    ("depthwise_out", "depthwise_lanes", "dense_out", "matrix"),
    ("depthwise_out", "matrix", "expanded", "spilled"),
    ("depthwise_out", "depthwise_taps", "expanded", "spilled"),
)
LEAST_OF_A_BASE = 3  # networks; fewer say too little of how its layers are weighed
NAME = "tile model"


class _Row(Protocol):
    """What is fitted: a network's features and milliseconds."""

    @property
    def features(self) -> Array: ...

    @property
    def ms(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A compiled network that the model is fitted to.

    Attributes:
      row: of the table.
      kind: see `kind_of`.
      features: float64[features], all of FEATURES.
    """

    row: NetworkRow
    kind: tuple[Any, ...]
    features: Array

    @property
    def ms(self) -> float:
        """Milliseconds of a batch."""
        assert self.row.ms is not None
        return self.row.ms


def coefficients(rows: Sequence[_Row], chosen: Sequence[str]) -> Array:
    """Return ms per 10^9 of each chosen feature, 0 or larger: least relative squares.

    Exact: of all sets of features, the least squares without a bound whose weights are
    all positive and whose error is least are those with the bound.
    """
    places = [FEATURES.index(name) for name in chosen]
    matrix = np.array([row.features[places] / row.ms for row in rows])
    scale = matrix.mean(axis=0)
    matrix = matrix / np.where(scale > 0, scale, 1)
    best, least = np.zeros(len(places)), math.inf
    for size in range(1, len(places) + 1):
        for active in itertools.combinations(range(len(places)), size):
            part = matrix[:, active]
            found, *_ = np.linalg.lstsq(part, np.ones(len(rows)), rcond=None)
            error = float(((part @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(len(places)), error
                best[list(active)] = found
    return best / np.where(scale > 0, scale, 1)


def left_out(
    rows: Sequence[Fitted],
    chosen: Sequence[str],
    group: Callable[[Fitted], Any] = lambda row: row.row.digest,
) -> dict[str, float]:
    """Return, by digest, the relative error of each row, its group left out of the fit.

    Args:
      rows: compiled networks.
      chosen: features.
      group: what is left out together; by default each network alone.
    """
    places = [FEATURES.index(name) for name in chosen]
    found = {}
    for key in dict.fromkeys(map(group, rows)):
        weights = coefficients([row for row in rows if group(row) != key], chosen)
        for row in (row for row in rows if group(row) == key):
            predicted = float(row.features[places] @ weights)
            found[row.row.digest] = predicted / row.ms - 1
    return found


def best_set(
    rows: Sequence[Fitted], sets: Iterable[Sequence[str]] = SETS
) -> Sequence[str]:
    """Return the set of features whose leave-one-out error is least; the first of two
    that are equal.
    """  # noqa: D205 (one sentence)
    return min(sets, key=lambda chosen: rms(left_out(rows, chosen).values()))


def rms(errors: Iterable[float]) -> float:
    """Return the root mean square."""
    return math.sqrt(float(np.mean(np.square(list(errors)))))


class TileModel:
    """Milliseconds of networks by arithmetic; a source of latencies.

    Attributes:
      name: of the source.
      table: of the networks that it is fitted to, and all others of that file.
      chosen: the features that have a coefficient.
      rows: what it is fitted to: whole compiled networks in its domain.
      weights: ms per 10^9 of each of `chosen`.
      error: root mean square of the relative leave-one-out errors.
      error_of_other_kinds: the same with all networks of one base left out together;
        None where the fit has one base only.
    """

    name = NAME

    def __init__(self, table: LatencyTable, chosen: Sequence[str] | None = None):
        """Fit the model.

        Args:
          table: of compiled networks.
          chosen: features; None takes the best one of SETS.

        Raises:
          UserError: the table has too few compiled networks, or describes one that
            cannot be built.
        """
        self.table = table
        self.rows = fitted_rows(table)
        least = 2 * len(chosen or SETS[0])
        if len(self.rows) < least:
            raise UserError(
                f"the tile model needs {least} whole compiled networks in its domain, "
                f"and there are {len(self.rows)} for {table.conditions}; python -m "
                "search.table compiles some"
            )
        self.chosen = tuple(chosen or best_set(self.rows))
        self.weights = coefficients(self.rows, self.chosen)
        self._places = [FEATURES.index(name) for name in self.chosen]
        kinds: dict[Any, list[float]] = {}
        for row in self.rows:
            kinds.setdefault(row.kind, []).append(self.errors[row.row.digest])
        self._error_by_kind = {kind: rms(errors) for kind, errors in kinds.items()}
        self._layouts: dict[Any, Layout | str] = {}

    @functools.cached_property
    def errors(self) -> Mapping[str, float]:
        """Relative leave-one-out errors by digest."""
        return left_out(self.rows, self.chosen)

    @functools.cached_property
    def error(self) -> float:
        """Root mean square of the leave-one-out errors."""
        return rms(self.errors.values())

    @functools.cached_property
    def error_of_other_kinds(self) -> float | None:
        """Root mean square of the errors with all networks of one base left out."""
        if len(self._error_by_kind) < 2:
            return None
        return rms(left_out(self.rows, self.chosen, lambda row: row.kind).values())

    def refit(self, rows: Iterable[NetworkRow]) -> "TileModel":
        """Return the model fitted to these compiled networks, too; the newest count.

        Its features stay the same.

        Raises:
          UserError: a row describes no network.
        """
        new = {row.digest: row for row in rows if row.source in OF_WHOLES}
        networks = {**self.table.networks, **new}
        table = dataclasses.replace(self.table, networks=networks)
        return TileModel(table, self.chosen)

    def __call__(self, variant: Variant) -> Estimate:
        """Return a network's milliseconds, or why there are none."""
        return self.many([variant])[0]

    def many(self, variants: Sequence[Variant]) -> list[Estimate]:
        """Return the estimates of many networks.

        Those that differ in resolution alone cost little more than one. The error of
        each is that of the fit's networks of its base.
        """
        found: dict[int, Estimate] = {}
        groups: dict[Any, list[int]] = {}
        for number, variant in enumerate(variants):
            groups.setdefault(layout_key(variant), []).append(number)
        for key, numbers in groups.items():
            known = []
            for number in numbers:
                layout = self._layout(key, variants[number])
                if isinstance(layout, str):
                    found[number] = Estimate(None, NAME, reason=layout)
                elif why := layout.why_not(variants[number]):
                    found[number] = Estimate(None, NAME, reason=why)
                else:
                    known.append(number)
            if known:
                group = [variants[number] for number in known]
                found |= zip(known, self._estimates(key, group), strict=True)
        return [found[number] for number in range(len(variants))]

    def _layout(self, key: Any, variant: Variant) -> Layout | str:
        """Return the layout of a network, or why the model does not know it."""
        known = self._layouts.get(key)
        if known is None:
            try:
                known = Layout.of(variant)
            except ModelError as error:  # with another resolution it may be built
                return str(error)
            known = self._why_unknown(variant, known) or known
            self._layouts[key] = known
        return known

    def _why_unknown(self, variant: Variant, layout: Layout) -> str:
        if why := why_outside(variant, layout.specs):
            return why
        if kind_of(variant) in self._error_by_kind:
            return ""
        return (
            f"the tile model is fitted to fewer than {LEAST_OF_A_BASE} networks that "
            "are scaled from such stages; compile some by python -m search.table"
        )

    def _estimates(self, key: Any, variants: Sequence[Variant]) -> list[Estimate]:
        """Return the estimates of networks of one layout."""
        layout = self._layouts[key]
        assert isinstance(layout, Layout)
        conditions = self.table.conditions
        features = layout.features(
            [one.resolution for one in variants], conditions.batch, conditions.dtype
        )
        error = self._error_by_kind[kind_of(variants[0])]
        # Term by term: a product of matrices rounds otherwise by its size.
        terms = (
            weight * features[:, place]
            for weight, place in zip(self.weights, self._places, strict=True)
        )
        milliseconds = functools.reduce(operator.add, terms)
        return [Estimate(ms, NAME, error=error) for ms in milliseconds.tolist()]


def fitted_rows(table: LatencyTable) -> tuple[Fitted, ...]:
    """Return the whole compiled networks of a table that are in the model's domain.

    Those of a base that has too few are left out, too.

    Raises:
      UserError: a row does not describe its network.
    """
    found = []
    for row in table.networks.values():
        if row.ms is None or row.source not in OF_WHOLES:
            continue
        variant = row.variant()
        layout = Layout.of(variant)
        if not why_outside(variant, layout.specs):
            (features,) = layout.features(
                [variant.resolution], table.conditions.batch, table.conditions.dtype
            )
            found.append(Fitted(row, kind_of(variant), features))
    number = collections.Counter(row.kind for row in found)
    return tuple(row for row in found if number[row.kind] >= LEAST_OF_A_BASE)
