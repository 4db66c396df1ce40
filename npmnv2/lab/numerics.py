"""How far two correct computations of one network may differ, and where two networks begin to.

Every tolerance in the tests comes from here: the bound on rounding errors of sums of products (Higham, *Accuracy and
Stability of Numerical Algorithms*, 2nd edition, section 3.1), applied to the numbers at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from npmnv2.errors import ArgumentError
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


class Difference(NamedTuple):
    """How two arrays differ.

    Attributes
    ----------
    name : str
    largest : float
        Largest absolute difference.
    relative : float
        The same as a share of the largest absolute value of the first.
    ulps : float
        Largest difference in units in the last place of the first's largest value.
    cosine : float
        Cosine of the angle between them: 1 if they differ by a factor only.
    """

    name: str
    largest: float
    relative: float
    ulps: float
    cosine: float


def difference(name: str, reference: Array, other: Array) -> Difference:
    """Compare two arrays of one shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if reference.shape != other.shape:
        raise ArgumentError(f"{name} must have shape {reference.shape} in both, got {other.shape}")
    a, b = (x.astype(np.float64).ravel() for x in (reference, other))
    largest = float(np.abs(a - b).max(initial=0.0))
    scale = float(np.abs(a).max(initial=0.0))
    spacing = float(np.spacing(np.asarray(scale, reference.dtype)))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms else float(largest == 0)
    return Difference(name, largest, largest / scale if scale else largest, largest / spacing, cosine)


def compare(reference: Mapping[str, Array], other: Mapping[str, Array]) -> list[Difference]:
    """Compare two traces (`model.trace`) layer by layer, in the order of the first, where both have the layer."""
    return [difference(name, value, other[name]) for name, value in reference.items() if name in other]


def first_divergence(differences: list[Difference], tolerance: float = 1e-3) -> Difference | None:
    """The first layer whose relative difference is above `tolerance`: where to look for the fault of a port."""
    return next((d for d in differences if not d.relative <= tolerance), None)


def difference_table(differences: Sequence[Difference]) -> str:
    """Layer by layer: largest difference, its share of the layer's largest value, units in the last place, cosine."""
    lines = [f"{'layer':26} {'largest':>10} {'relative':>10} {'ulps':>8} {'1 - cosine':>11}"]
    for name, largest, relative, ulps, cosine in differences:
        lines.append(f"{name:26} {largest:10.2e} {relative:10.2e} {ulps:8.1f} {1 - cosine:11.1e}")
    return "\n".join(lines)
