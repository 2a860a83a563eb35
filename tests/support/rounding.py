"""How far a computed number may be from the true one."""

import math

import numpy as np


def rounding(terms: float, scale: float = 1.0, dtype: type = np.float32) -> float:
    """Returns 4 eps sqrt(terms) scale: each term is rounded by up to half an eps.

    Errors of either sign add up as their root. The factor is the margin for machines
    whose kernels add in another order, or round a function's last bit elsewhere.
    """
    return 4 * float(np.finfo(dtype).eps) * math.sqrt(terms) * scale
