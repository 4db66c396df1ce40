"""Between real numbers and integers, and between two scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fixed_point import multiply, multiply_in_vectors, quantize_multiplier
from .rescale import saturate
from .tensor import Arithmetic, Integers, TensorQuantization

# XNNPACK leaves other ratios of scales, and changes of type, to TensorFlow Lite's optimized kernels.
_SMALLEST, _LARGEST = 2.0**-8, 2.0**7


def quantize(x: NDArray[Any], output: TensorQuantization, arithmetic: Arithmetic = "xnnpack") -> Integers:
    """Real numbers as integers: ``clip(round(x / scale) + zero_point)``.

    Halves go to even with XNNPACK, which multiplies by the reciprocal, and away from zero in the reference kernels.
    """
    if arithmetic == "xnnpack":
        steps = np.rint(np.asarray(x, np.float32) * (np.float32(1) / output.scales))
    else:
        ratio = np.asarray(x, np.float32) / output.scales
        steps = np.trunc(ratio)
        steps += np.copysign(np.abs(ratio - steps) >= np.float32(0.5), ratio)
    return saturate(steps, output, arithmetic)


def dequantize(q: Integers, quantization: TensorQuantization) -> NDArray[np.float32]:
    """The real numbers that integers stand for, in float32."""
    return quantization.centered(q) * quantization.scales


def requantize_table(
    source: TensorQuantization, output: TensorQuantization, arithmetic: Arithmetic
) -> NDArray[np.uint8] | None:
    """`requantize` of every integer, both as unsigned bytes, or None where results depend on the place in a map."""
    low, high = source.limits
    every = np.arange(low, high + 1).astype(source.dtype)
    # As one image, all of it vectors; and as many, all of them remainders.
    found, others = (requantize(x, source, output, arithmetic).ravel() for x in (every[None], every[:, None]))
    if not np.array_equal(found, others):
        return None
    table: NDArray[np.uint8] = (found.astype(np.int64) - output.limits[0]).astype(np.uint8)
    return table


def _is_same(source: TensorQuantization, output: TensorQuantization) -> bool:
    return (source.scale, source.zero_point, source.dtype) == (output.scale, output.zero_point, output.dtype)


def requantize(q: Integers, source: TensorQuantization, output: TensorQuantization, arithmetic: Arithmetic) -> Integers:
    """Integers of one scale as integers of another, or of another type."""
    if _is_same(source, output):
        return q
    ratio = np.float32(source.scale[0]) / np.float32(output.scale[0])
    centered = source.centered(q, np.int64)
    if arithmetic == "xnnpack" and source.dtype == output.dtype and _SMALLEST <= ratio <= _LARGEST:
        steps = (centered * int(np.rint(np.float32(256) * ratio)) + 128) >> 8
    else:
        factor = quantize_multiplier(source.scale[0] / output.scale[0])
        steps = (multiply_in_vectors if arithmetic == "xnnpack" else multiply)(centered, factor)
    return saturate(steps, output, arithmetic)
