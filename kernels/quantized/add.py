"""Sums and joins of integer maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .fixed_point import floor_log2, quantize_multiplier, rounding_shift, saturating_multiply
from .rescale import saturate
from .tensor import Arithmetic, Integers, TensorQuantization


def add(
    x: Integers,
    y: Integers,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    arithmetic: Arithmetic,
) -> Integers:
    """Residual connection: both maps are brought to a common scale, added, and brought to that of the output.

    Parameters
    ----------
    x, y : integers [shape=(N, H, W, C)]
    quantization : (of x, of y, of the output)
    arithmetic : {"xnnpack", "reference"}
    """
    output = quantization[2]
    total = _xnnpack(x, y, *quantization) if arithmetic == "xnnpack" else _reference(x, y, *quantization)
    return saturate(total, output, arithmetic)


def _xnnpack(
    x: Integers, y: Integers, a: TensorQuantization, b: TensorQuantization, out: TensorQuantization
) -> Integers:
    m, n, shift = add_factors(a, b, out)
    total: Integers = (m * a.centered(x, np.int64) + n * b.centered(y, np.int64) + (1 << (shift - 1))) >> shift
    return total


def add_factors(a: TensorQuantization, b: TensorQuantization, out: TensorQuantization) -> tuple[int, int, int]:
    """XNNPACK's two integer factors of 20 bits, and the shift after the products."""
    factors = [np.float32(q.scale[0]) / np.float32(out.scale[0]) for q in (a, b)]
    shift = 20 - floor_log2(float(max(factors)))
    m, n = (int(np.rint(np.ldexp(float(factor), shift))) for factor in factors)
    return m, n, shift


def _reference(
    x: Integers, y: Integers, a: TensorQuantization, b: TensorQuantization, out: TensorQuantization
) -> Integers:
    """Three fixed-point factors; both maps move up by 20 bits first, so that little is lost."""
    twice = 2 * max(a.scale[0], b.scale[0])
    total: Integers = np.zeros(1, np.int64)
    for q, values in ((a, x), (b, y)):
        factor = quantize_multiplier(q.scale[0] / twice)
        total = total + rounding_shift(
            saturating_multiply(q.centered(values, np.int64) << 20, factor.mantissa), -factor.exponent
        )
    # The product of a float32 and a power of two is exact in float32.
    last = quantize_multiplier(twice / ((1 << 20) * out.scale[0]))
    return rounding_shift(saturating_multiply(total, last.mantissa), -last.exponent)


def concat_rows(
    *maps: Integers, columns: int, sources: Sequence[TensorQuantization], output: TensorQuantization
) -> Integers:
    """Cut maps of several scales into rows of `columns` numbers, and join them to (N, rows, columns) in one scale.

    Other scales are changed by a factor in float32, halves away from zero, in every arithmetic: XNNPACK leaves it to
    TensorFlow Lite (``ConcatenationWithScaling``).
    """
    rows = [_in_scale_of(output, x.reshape(len(x), -1, columns), source) for x, source in zip(maps, sources)]
    return np.concatenate(rows, axis=1)


def _in_scale_of(output: TensorQuantization, x: Integers, source: TensorQuantization) -> Integers:
    if (source.scale, source.zero_point) == (output.scale, output.zero_point):
        return x
    factor = source.scales * (np.float32(1) / output.scales)
    steps = x.astype(np.float32) * factor + np.float32(-source.zero_point) * factor
    return saturate(np.trunc(steps + np.copysign(np.float32(0.5), steps)), output, "reference")


def concat(*maps: Integers) -> Integers:
    """Join maps of one scale along their channels."""
    return np.concatenate(maps, axis=-1)
