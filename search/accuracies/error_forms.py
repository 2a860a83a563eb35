"""How a network's error falls as it grows: three saturating forms, and their fit.

Error is 100 - top-1 in %. In every form it is a family's scale times a function of
depth d, width w and resolution r over the base's, which is 1 where all are 1 and never
rises along an axis. All of it is arithmetic on arrays; the fit alone needs scipy.

    additive     1 + a (d^-p - 1) + b (w^-q - 1) + c (r^-s - 1)
    product      (f + (1-f) d^-p) (g + (1-g) w^-q) (h + (1-h) r^-s)
    bottleneck   floor + (1 - floor) softmin(d^-p, w^-q, r^-s)

Along a single axis each of them saturates, as in table 7 of the EfficientNet paper
(arXiv 1905.11946). A fourth does not: "power", floor + (1 - floor) d^-p w^-q r^-s. It
is further off on three of the four families of single axes and nearer on MobileNetV2's,
as `python -m search.surrogate` prints; it is here to be compared with.
"""

from collections.abc import Callable

import numpy as np

from common import extras

SATURATING = ("additive", "product", "bottleneck")
FORMS = (*SATURATING, "power")
# How hard the fit pulls parameters to where it starts, over one row's log error.
_PULL = 0.01
_EVALUATIONS = 200


def relative_error(form: str, parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return error over that of the base.

    Args:
      form: of FORMS.
      parameters: of fits, float[k, m].
      sizes: depth, width and resolution over the base's, float[n, 3], above 0.

    Returns:
      float[k, n].
    """
    return _SHAPES[form](np.atleast_2d(parameters), np.log(sizes))


def fit(
    form: str,
    sizes: np.ndarray,
    errors: np.ndarray,
    family: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Return a form's parameters, float[m], by least squares of log errors.

    The families share them; each has a scale of its own, which is solved for within.

    Args:
      form: of FORMS.
      sizes: float[n, 3], see `relative_error`.
      errors: in %, float[n].
      family: the number of each row's family, from 0, int[n].
      weights: of the rows, 0 or more, float[n].
    """
    extras.require("scipy", task="fitting the surrogate of accuracies")
    from scipy.optimize import least_squares

    start, logs, targets = np.array(_START[form]), np.log(sizes), np.log(errors)
    roots = np.sqrt(weights)
    totals = np.maximum(np.bincount(family, weights), 1e-9)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        shape = _SHAPES[form](parameters[None], logs)[0]
        off = targets - np.log(np.maximum(shape, 1e-3))
        scales = np.bincount(family, weights * off) / totals
        # The pull keeps finite what the rows do not say.
        return np.concatenate(
            [roots * (off - scales[family]), _PULL * (parameters - start)]
        )

    return least_squares(residuals, start, max_nfev=_EVALUATIONS).x


def scale(
    form: str, parameters: np.ndarray, sizes: np.ndarray, errors: np.ndarray
) -> float:
    """Return a family's error at its base, in %, from rows of it."""
    return float(
        np.exp(np.mean(np.log(errors / relative_error(form, parameters, sizes)[0])))
    )


def _powers(exponents: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return x ^ -|exponent|: float[k, n, 3] of float[k, 3] and float[n, 3]."""
    return np.exp(-np.abs(exponents)[:, None] * logs)


def _share(logits: np.ndarray) -> np.ndarray:
    """Return numbers in (0, 1)."""
    return 1 / (1 + np.exp(-logits))


def _additive(p: np.ndarray, logs: np.ndarray) -> np.ndarray:
    taken = _powers(p[:, 3:], logs) - 1
    return 1 + np.einsum("ki,kni->kn", np.abs(p[:, :3]), taken)


def _product(p: np.ndarray, logs: np.ndarray) -> np.ndarray:
    floors = _share(p[:, None, :3])
    return (floors + (1 - floors) * _powers(p[:, 3:], logs)).prod(axis=2)


def _bottleneck(p: np.ndarray, logs: np.ndarray) -> np.ndarray:
    sharpness = np.exp(p[:, 4:5])
    weakest = _powers(p[:, 1:4] * sharpness, logs).mean(axis=2) ** (3 / sharpness)
    floor = _share(p[:, :1])
    # Cubed by the 3: three axes alike multiply, as in "power".
    return floor + (1 - floor) * weakest


def _power(p: np.ndarray, logs: np.ndarray) -> np.ndarray:
    floor = _share(p[:, :1])
    return floor + (1 - floor) * np.exp(-np.abs(p[:, 1:]) @ logs.T)


_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "additive": _additive,
    "product": _product,
    "bottleneck": _bottleneck,
    "power": _power,
}
_START = {
    "additive": [0.2, 0.2, 0.2, 1.0, 1.0, 1.0],
    "product": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "bottleneck": [0.0, 0.3, 0.3, 0.3, 0.5],
    "power": [0.0, 0.3, 0.3, 0.3],
}
