"""Probabilities of integers: by a table, or for softmax also in fixed point as gemmlowp computes it.

Sources: TensorFlow Lite's ``reference/softmax.h``; gemmlowp's ``fixedpoint.h`` (``exp_on_negative_values``,
``one_over_one_plus_x_for_x_in_0_1``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .fixed_point import INT32_MAX, quantize_multiplier, rounding_shift, saturating_multiply
from .rescale import saturate
from .tensor import Arithmetic, Integers, TensorQuantization

Fixed = NDArray[np.int64]

# Differences to the largest logit have 5 bits before the point, sums of exponentials 12.
_INPUT_BITS, _SUM_BITS = 5, 12
_FRACTION = 31 - _INPUT_BITS
# exp(−2^k) for k = −2 … 4, as fractions of 2³¹.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_MINUS_EIGHTH, _THIRD = 1895147668, 715827883
_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540


def logistic(x: Integers, source: TensorQuantization, output: TensorQuantization) -> Integers:
    """The logistic function 1 / (1 + e⁻ˣ) of every number, in steps of the output, the same in every arithmetic."""
    low, high = source.limits
    real = source.scales * (np.arange(low, high + 1) - source.zero_point).astype(np.float32)
    # Correctly rounded, which the C library's float32 function is but for a few arguments in a million. Beyond 80 the
    # result is 0 in any case.
    exponentials = np.exp(np.minimum(-real.astype(np.float64), 80)).astype(np.float32)
    share = np.float32(1) / (np.float32(1) + exponentials)
    steps = np.floor(share * (np.float32(1) / output.scales) + np.float32(0.5))
    table = saturate(steps, output, "reference")
    found: Integers = table[x.astype(np.int64) - low]
    return found


def softmax(
    x: Integers, source: TensorQuantization, output: TensorQuantization, arithmetic: Arithmetic, beta: float = 1.0
) -> Integers:
    """Probabilities over the last axis, in steps of 1/256.

    Parameters
    ----------
    x : integers [shape=(…, C)]
    source, output : TensorQuantization
        The output has the scale 1/256 and the smallest integer of its type as zero point.
    arithmetic : {"xnnpack", "reference"}
        XNNPACK leaves it to TensorFlow Lite's optimized kernel, which has a table.
    beta : float
        Factor on the logits.
    """
    if arithmetic == "xnnpack":
        return _from_table(x, source, output, beta)
    return _fixed_point(x, source, output, beta)


def _from_table(x: Integers, source: TensorQuantization, output: TensorQuantization, beta: float) -> Integers:
    step = np.float32(source.scale[0]) * np.float32(beta)
    # Correctly rounded, which the C library's float32 function is but for a few arguments in a million.
    table = np.exp((-step * np.arange(256, dtype=np.float32)).astype(np.float64)).astype(np.float32)
    exponentials = table[x.max(axis=-1, keepdims=True).astype(np.int64) - x]
    # One after the other, as `np.cumsum` adds and `np.sum` does not.
    sums = np.cumsum(exponentials, axis=-1, dtype=np.float32)[..., -1:]
    steps = exponentials * (np.float32(1) / (sums * np.float32(output.scale[0])))
    return saturate(np.floor(steps + np.float32(0.5)), output, arithmetic="xnnpack")


def _fixed_point(x: Integers, source: TensorQuantization, output: TensorQuantization, beta: float) -> Integers:
    low, high = output.limits
    real = min(np.float64(np.float32(beta)) * source.scale[0] * (1 << _FRACTION), float(INT32_MAX))
    mantissa, exponent = quantize_multiplier(real)
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    radius = math.floor(((1 << _INPUT_BITS) - 1) * float(1 << _FRACTION) / 2.0 ** int(exponent))
    near = difference >= -radius
    exponentials = _exp(saturating_multiply(np.where(near, difference, 0) << exponent, mantissa))
    sums = np.where(near, rounding_shift(exponentials, _SUM_BITS), 0).sum(axis=-1, keepdims=True)
    scale, over = _reciprocal(sums)
    steps = rounding_shift(saturating_multiply(scale, exponentials), over + 31 - 8)
    return np.where(near, np.clip(steps + low, low, high), low).astype(output.dtype)


def _exp(x: Fixed) -> Fixed:
    """exp(x) as a fraction of 2³¹ for x ≤ 0 in units of 2⁻²⁶."""
    quarter = 1 << (_FRACTION - 2)
    inside = (x & (quarter - 1)) - quarter
    result = _exp_of_small(inside << _INPUT_BITS)
    rest = inside - x
    for power, factor in enumerate(_POWERS, start=-2):
        bit = (rest & (1 << (_FRACTION + power))) != 0
        result = np.where(bit, saturating_multiply(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_of_small(x: Fixed) -> Fixed:
    """exp(x) for −1/4 ≤ x < 0, by Taylor's polynomial around −1/8."""
    x = x + (1 << 28)
    square = saturating_multiply(x, x)
    cube, fourth = saturating_multiply(square, x), saturating_multiply(square, square)
    tail = rounding_shift(saturating_multiply(rounding_shift(fourth, 2) + cube, _THIRD) + square, 1)
    return _EXP_MINUS_EIGHTH + saturating_multiply(_EXP_MINUS_EIGHTH, x + tail)


def _reciprocal(x: Fixed) -> tuple[Fixed, Fixed]:
    """1/x as a fraction of 2³¹ and the power of two that it lacks; Newton's method, three steps."""
    bits = np.floor(np.log2(x)).astype(np.int64)
    headroom = 31 - bits
    half = ((x << headroom) - (1 << 31) + INT32_MAX + 1) >> 1
    y = _48_OVER_17 + saturating_multiply(half, _MINUS_32_OVER_17)
    for _ in range(3):
        missing = (1 << 29) - saturating_multiply(half, y)
        y = y + (saturating_multiply(y, missing) << 2)
    return np.minimum(y << 1, INT32_MAX), _SUM_BITS - headroom
