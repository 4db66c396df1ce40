"""How far two correct computations of one network may differ.

Tests of single layers take their tolerances from here: the bound on rounding errors of sums of products (Higham,
*Accuracy and Stability of Numerical Algorithms*, 2nd edition, section 3.1), applied to the numbers at hand. Those of
whole networks are empirical (docs/numerics.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from npmnv2.kernels import Array


def gamma(terms: int, dtype: DTypeLike = np.float32) -> float:
    """Relative error that a sum of `terms` rounded operations can have: ``n·u / (1 - n·u)``, u half an epsilon.

    It holds for any order of summation, with and without fused multiply-add.
    """
    unit = float(np.finfo(dtype).eps) / 2
    return terms * unit / (1 - terms * unit)


def sum_bound(magnitude: Array, terms: int, dtype: DTypeLike = np.float32) -> Array:
    """Largest difference between two computations of a sum of `terms` products.

    Parameters
    ----------
    magnitude : Array
        The same sum over absolute values: ``|bias| + Σ |x|·|kernel|``.
    terms : int
        Number of products.

    Returns
    -------
    Array
        ``2·γ(terms + 2)·magnitude``: once for each of the two; each product and the bias may add one rounding more.
    """
    return 2 * gamma(terms + 2, dtype) * np.asarray(magnitude, np.float64)


def mean_bound(magnitude: Array, terms: int, dtype: DTypeLike = np.float32) -> Array:
    """Largest difference between two computations of a mean of `terms` numbers, summed in double precision.

    Parameters
    ----------
    magnitude : Array
        The mean of the absolute values.
    terms : int

    Returns
    -------
    Array
        Each of the two rounds once for every number in double precision and once to `dtype`, so it is nearly
        ``2·u·magnitude`` for any map that fits in memory.
    """
    relative = (1 + gamma(terms, np.float64)) * (1 + gamma(1, dtype)) - 1
    return 2 * relative * np.asarray(magnitude, np.float64)
