"""Top-1 as published results predict it, by several forms fitted to resampled families.

`python -m search.surrogate` says how well; `accuracy_sources.surrogate` makes a source
of it. Imports no framework.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.errors import UserError
from models.variants import Variant
from search.accuracies import error_forms, network_size, published
from search.results import Score

RESAMPLES = 40
_DECIMALS = 4  # of a score: a thousandth of its error, and lines of results stay short


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trust:
    """The sizes for which a prediction is given; outside no row or hardly one stands.

    Attributes:
      depth: least and most blocks over the base's: 4 are 64 blocks of EfficientNet-X.
      width: likewise of channels; no MBConv of the rows is wider than 2.
      resolution: in pixels.
    """

    depth: tuple[float, float] = (0.6, 4.0)
    width: tuple[float, float] = (0.5, 2.0)
    resolution: tuple[float, float] = (160, 600)

    def inside(self, sizes: np.ndarray) -> np.ndarray:
        """Say of each size, float[n, 3], whether it is trusted: bool[n]."""
        low, high = self._bounds()
        # Sizes are quotients: 64 blocks of 16 are 4 but for rounding.
        within = (sizes >= low - 1e-9) & (sizes <= high + 1e-9)
        return np.all(within, axis=1)

    def why_outside(self, size: Sequence[float]) -> str:
        """Return in words what of a size is outside; "" where nothing is."""
        low, high = self._bounds()
        values = np.array(size) * (1, 1, 224)
        names = ("blocks over the base's", "width", "pixels")
        found = [
            f"{name} {value:.4g}, trusted from {a:g} to {b:g}"
            for name, value, a, b in zip(
                names, values, low * (1, 1, 224), high * (1, 1, 224), strict=True
            )
            if not a - 1e-6 <= value <= b + 1e-6
        ]
        return "; ".join(found)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.array([self.depth, self.width, self.resolution], float)
        return tuple((pairs / [[1], [1], [224]]).T)


@dataclasses.dataclass(frozen=True)
class Paired:
    """How much better one network is predicted to be than another, in points of top-1.

    Attributes:
      median: of the differences, fit by fit.
      low: their tenth percentile.
      high: their ninetieth.
      above_zero: share of the fits in which the first network is better.
    """

    median: float
    low: float
    high: float
    above_zero: float

    def __str__(self) -> str:
        return (
            f"{self.median:+.2f} ({self.low:+.2f} to {self.high:+.2f}), above zero in "
            f"{self.above_zero:.0%}"
        )

    @classmethod
    def of(cls, differences: np.ndarray) -> "Paired":
        """Summarise differences, float[n]."""
        low, median, high = np.percentile(differences, (10, 50, 90))
        above = float(np.mean(differences > 0))
        return cls(float(median), float(low), float(high), above)


class Surrogate:
    """Predicted top-1 by several forms, each fitted to resampled families.

    A prediction sees blocks, width and resolution, and nothing else of a network. It is
    good to about one point for a family that the rows do not have; of two networks of
    one family the difference (`paired`) says more than either number.

    Attributes:
      family: the one whose networks are predicted.
      scale_family: whose rows set the scale: another one where none of the family's own
        is fitted.
      base: the network of depth and width 1.
      rows: that the forms are fitted to.
      own: all rows of your own file, fitted or not.
      left_out: those of them that are not fitted, with the reason of each.
      forms: their names; samples come form by form.
      resamples: samples of each form.
      trust: see `Trust`; None predicts whatever is asked, and says so.
    """

    def __init__(
        self,
        *,
        family: str = "efficientnet-x",
        rows: str | None = None,
        recalled: bool = False,
        forms: Sequence[str] = error_forms.SATURATING,
        resamples: int = RESAMPLES,
        seed: int = 0,
        trust: Trust | None = Trust(),
    ):
        """Fit it.

        Args:
          family: one of `published`'s, or "x", "efficientnet", "lite", "v2", or that of
            your own rows.
          rows: path of a CSV file of your own, which is fitted with the published ones;
            see `search.accuracies.published` for its columns.
          recalled: whether to fit rows that were remembered, too: EfficientNet-X's.
          forms: of `error_forms.FORMS`.
          resamples: of the families, drawn with replacement; the scale's is always in.
          seed: of the draws.
          trust: the sizes for which predictions are given.

        Raises:
          UserError: the family or a form is not known, none of the family's rows is
            fitted, or a file or a row of it makes no sense, or none of its rows is
            fitted.
        """
        _check(forms, resamples)
        self.own = published.read(rows) if rows else ()
        every = [*published.read(), *self.own]
        self.family = published.family_name(family)
        published.check_family(self.family, every)
        self.base = published.base_variant(self.family)
        self.rows = published.fitted(every, recalled=recalled)
        self.left_out = published.left_out(self.own, recalled=recalled)
        if rows and len(self.left_out) == len(self.own):
            raise UserError(
                f"{rows} has no row to fit{published.reasons(self.left_out)}"
            )
        self.scale_family = _scale_family(self.family, every, recalled)
        self.forms = tuple(forms)
        self.resamples = resamples
        self.trust = trust
        table = Table(self.rows)
        draws = table.draws(resamples, seed, keep=self.scale_family)
        self._fits = {
            form: [table.fit(form, weights) for weights in draws] for form in self.forms
        }
        self._scales = {
            form: np.array([table.scale(form, p, self.scale_family) for p in fits])
            for form, fits in self._fits.items()
        }

    def sizes(self, variants: Sequence[Variant]) -> np.ndarray:
        """Return depth, width and resolution over the base's: float[n, 3]."""
        pairs = [network_size.relative_size(one, self.base) for one in variants]
        return np.array(pairs, float).reshape(-1, 3)

    def predict(self, sizes: np.ndarray) -> np.ndarray:
        """Return top-1 in %, float[forms * resamples, n], form by form.

        Args:
          sizes: float[n, 3] of depth, width and resolution over the base's, see
            `network_size.relative_size`; further columns are not looked at. No trust
            region is asked.
        """
        return np.concatenate(
            [self._predict(form, sizes, slice(1, None)) for form in self.forms]
        )

    def plain(self, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Return top-1 in %, float[n], by form, of the fits to the rows as they are."""
        return {form: self._predict(form, sizes, slice(1))[0] for form in self.forms}

    def paired(self, one: Variant, other: Variant) -> Paired:
        """Return the difference of two networks, over the same fits."""
        predictions = self.predict(self.sizes([one, other]))
        return Paired.of(predictions[:, 0] - predictions[:, 1])

    def __call__(self, variant: Variant, rung: int = 0) -> Score:
        """Predict a network's top-1: a sample for each form and resample.

        The score's source says what of the network the surrogate does not see: it
        predicts the same for any kernel, kind of block, activation and so on.

        Args:
          variant: the network.
          rung: not looked at, nothing is trained.
        """
        sizes = self.sizes([variant])
        names = network_size.unseen(variant, self.base)
        source = "predicted" + f", blind to {', '.join(names)}" * bool(names)
        outside = (self.trust or Trust()).why_outside(sizes[0])
        if outside and self.trust is not None:
            return Score((), source, f"outside of what the rows cover: {outside}")
        if outside:
            source += f", extrapolated: {outside}"
        samples = np.round(self.predict(sizes)[:, 0], _DECIMALS)
        return Score(tuple(samples.tolist()), source)

    def many(self, variants: Sequence[Variant]) -> list[Score]:
        """Predict several networks; sample by sample they are of the same fits."""
        return [self(variant) for variant in variants]

    @property
    def forms_of_samples(self) -> tuple[str, ...]:
        """The form that each sample of a score is of."""
        return tuple(np.repeat(self.forms, self.resamples).tolist())

    def _predict(self, form: str, sizes: np.ndarray, fits: slice) -> np.ndarray:
        sizes = np.asarray(sizes, float)[:, :3]
        parameters, scales = self._fits[form][fits], self._scales[form][fits]
        shape = error_forms.relative_error(form, np.array(parameters), sizes)
        return 100 - scales[:, None] * shape


class Table:
    """Rows as arrays.

    Attributes:
      families: names, in order.
      family: the number of each row's, int[n].
      sizes: float[n, 3], see `network_size.relative_size`.
      errors: 100 - top-1, float[n].
    """

    def __init__(self, rows: Sequence[published.PublishedRow]):
        self.families = sorted({row.family for row in rows})
        number = {name: i for i, name in enumerate(self.families)}
        self.family = np.array([number[row.family] for row in rows])
        self.sizes = np.array([row.size for row in rows], float)
        self.errors = np.array([100 - row.top1 for row in rows])

    def draws(self, count: int, seed: int, keep: str) -> list[np.ndarray]:
        """Return weights of the rows: 1 for all, then those of `count` resamples."""
        number, size = self.families.index(keep), len(self.families)
        found = [np.ones(len(self.errors))]
        for i in range(count):
            drawn = np.random.default_rng([seed, i]).integers(size, size=size)
            times = np.bincount(drawn, minlength=size).astype(float)
            times[number] = 1
            found.append(times[self.family])
        return found

    def fit(self, form: str, weights: np.ndarray) -> np.ndarray:
        """Return a form's parameters by the rows of a weight above 0."""
        at = weights > 0
        return error_forms.fit(
            form, self.sizes[at], self.errors[at], self.family[at], weights[at]
        )

    def scale(self, form: str, parameters: np.ndarray, family: str) -> float:
        """Return a family's error at its base, by all of its rows."""
        at = self.family == self.families.index(family)
        return error_forms.scale(form, parameters, self.sizes[at], self.errors[at])


def _check(forms: Sequence[str], resamples: int) -> None:
    unknown = [form for form in forms if form not in error_forms.FORMS]
    if unknown or not forms:
        raise UserError(
            f"surrogate.forms = {list(forms)!r}: it has to be one or more of "
            f"{', '.join(error_forms.FORMS)}"
        )
    if type(resamples) is not int or resamples < 1:
        raise UserError(f"surrogate.resamples = {resamples!r}: it has to be 1 or more")


def _scale_family(
    family: str, rows: Sequence[published.PublishedRow], recalled: bool
) -> str:
    """Return the family whose rows set the scale of another, or of itself.

    Raises:
      UserError: none of its rows is fitted, and no other's stand in for them.
    """
    own = [row for row in rows if row.family == family]
    left_out = published.left_out(own, recalled=recalled)
    if len(left_out) < len(own):
        return family
    if family in published.STAND_INS:
        return published.STAND_INS[family]
    raise UserError(
        f"no row of family {family!r} is fitted{published.reasons(left_out)}"
    )
