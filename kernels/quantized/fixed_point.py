"""gemmlowp's fixed-point arithmetic: a real factor as a 31-bit integer and a shift.

Sources: gemmlowp's ``fixedpoint.h`` and TensorFlow Lite's ``kernels/internal/common.h``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

INT32_MAX = (1 << 31) - 1


class Multiplier(NamedTuple):
    """``real ≈ mantissa / 2³¹ · 2^exponent``, each an int64 array with one number per factor."""

    mantissa: NDArray[np.int64]
    exponent: NDArray[np.int64]


def quantize_multiplier(real: ArrayLike) -> Multiplier:
    """The nearest fixed-point number to each non-negative `real`; what is below 2⁻³¹ becomes 0."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    # Halves are rounded up, as C's round does; all numbers are positive.
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    full = mantissa == 1 << 31
    mantissa, exponent = np.where(full, mantissa >> 1, mantissa), exponent.astype(np.int64) + full
    small = exponent < -31
    return Multiplier(np.where(small, 0, mantissa), np.where(small, 0, exponent))


def saturating_multiply(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """The high half of ``2ab`` (SaturatingRoundingDoublingHighMul): ``a · b / 2³¹``, ties up in size for a·b > 0."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # C's division rounds toward zero, a shift down.
    halves: NDArray[np.int64] = np.minimum(np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31)), INT32_MAX)
    return halves


def rounding_shift(x: ArrayLike, bits: ArrayLike) -> NDArray[np.int64]:
    """``x / 2^bits``, ties away from zero (RoundingDivideByPOT)."""
    x, bits = np.asarray(x, np.int64), np.asarray(bits, np.int64)
    mask = (np.int64(1) << bits) - 1
    up = ((x & mask) > (mask >> 1) + (x < 0)).astype(np.int64)
    shifted: NDArray[np.int64] = (x >> bits) + up
    return shifted


def rounding_shift_up(x: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """``x / 2^bits``, ties up."""
    shifted: NDArray[np.int64] = (x + ((np.int64(1) << bits) >> 1)) >> bits
    return shifted


def multiply(x: ArrayLike, by: Multiplier) -> NDArray[np.int64]:
    """``x · by``, rounded twice: to 31 bits and after the shift (MultiplyByQuantizedMultiplier)."""
    left, right = np.maximum(by.exponent, 0), np.maximum(-by.exponent, 0)
    return rounding_shift(saturating_multiply(np.asarray(x, np.int64) << left, by.mantissa), right)


def multiply_in_vectors(x: NDArray[np.int64], by: Multiplier) -> NDArray[np.int64]:
    """`multiply` as TensorFlow Lite's optimized kernels do it, for one factor.

    Their vectors of 16 numbers round ties of the second kind up, and the remainder of an image (N, …) does not.
    """
    left, right = np.maximum(by.exponent, 0), np.maximum(-by.exponent, 0)
    product = saturating_multiply(x << left, by.mantissa)
    flat, last = product.reshape(len(product), -1), product[0].size // 16 * 16
    parts = rounding_shift_up(flat[:, :last], right), rounding_shift(flat[:, last:], right)
    return np.concatenate(parts, axis=1).reshape(x.shape)


def floor_log2(x: float) -> int:
    """Exponent of the largest power of two that is not above `x`."""
    return math.frexp(x)[1] - 1
