"""How far two correct computations of one network may differ, and where two networks begin to.

Tests of single layers take their tolerances from here: the bound on rounding errors of sums of products (Higham,
*Accuracy and Stability of Numerical Algorithms*, 2nd edition, section 3.1), applied to the numbers at hand. Those of
whole networks are empirical (docs/numerics.md).
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
        Largest difference in units in the last place of the first's largest value, in the coarser of the two dtypes.
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
    coarser = max(reference.dtype, other.dtype, key=lambda dtype: float(np.finfo(dtype).eps))
    spacing = float(np.spacing(np.asarray(scale, coarser)))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = min(float(a @ b) / norms, 1.0) if norms and largest else float(largest == 0)
    return Difference(name, largest, largest / scale if scale else largest, largest / spacing, cosine)


def compare(reference: Mapping[str, Array], other: Mapping[str, Array]) -> list[Difference]:
    """Compare two traces (`model.trace`) layer by layer, in the order of the first.

    Layers that only one has, or that differ in shape, are left out (see `not_comparable`). Where one network has 1001
    classes and the other 1000, the background, class 0 of the larger one, is left out.
    """
    pairs = ((name, *_without_background(value, other[name])) for name, value in reference.items() if name in other)
    return [difference(name, a, b) for name, a, b in pairs if a.shape == b.shape]


def not_comparable(reference: Mapping[str, Array], other: Mapping[str, Array]) -> list[str]:
    """Names of the layers of two traces that `compare` leaves out."""
    compared = {difference.name for difference in compare(reference, other)}
    return [name for name in dict.fromkeys([*reference, *other]) if name not in compared]


def _without_background(a: Array, b: Array) -> tuple[Array, Array]:
    """Scores of ImageNet's classes, without the background where only one of the two has it."""
    widths = a.shape[-1:], b.shape[-1:]
    return (a[..., 1:] if widths == ((1001,), (1000,)) else a), (b[..., 1:] if widths == ((1000,), (1001,)) else b)


def first_divergence(differences: list[Difference], tolerance: float = 1e-3) -> Difference | None:
    """The first layer whose relative difference is above `tolerance`: where to look for the fault of a port."""
    return next((d for d in differences if not d.relative <= tolerance), None)


def verdict(differences: list[Difference], left_out: Sequence[str], tolerance: float = 1e-3) -> tuple[bool, str]:
    """Whether two networks agree as far as they can be compared, and a sentence about it."""
    remark = f"; not compared: {_first_of(left_out)}" if left_out else ""
    if not differences:
        return False, f"the two have no layer in common{remark}"
    parting = first_divergence(differences, tolerance)
    if parting is not None:
        what = f"differs by more than {tolerance:g} of its largest value (by {parting.relative:.1e})"
        return False, f"{parting.name} is the first layer that {what}{remark}"
    worst = max(differences, key=lambda difference: difference.relative)
    if worst.largest == 0:
        return True, f"all layers are equal, bit for bit{remark}"
    return True, f"all layers agree within {tolerance:g}; {worst.name} differs most, by {worst.relative:.1e}{remark}"


def _first_of(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def difference_table(differences: Sequence[Difference]) -> str:
    """Layer by layer: largest difference, its share of the layer's largest value, units in the last place, cosine."""
    lines = [f"{'layer':26} {'largest':>10} {'relative':>10} {'ulps':>8} {'1 - cosine':>11}"]
    for name, largest, relative, ulps, cosine in differences:
        units = f"{ulps:8.1f}" if ulps < 1e5 else f"{ulps:8.1e}"
        lines.append(f"{name:26} {largest:10.2e} {relative:10.2e} {units} {1 - cosine:11.1e}")
    return "\n".join(lines)
