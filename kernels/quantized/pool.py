"""Averages of integers. A pool keeps the scale of its input; a mean has a scale of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..conv import sliding_windows
from ..padding import Geometry
from .fixed_point import Multiplier, floor_log2, multiply, quantize_multiplier
from .rescale import saturate
from .tensor import Arithmetic, Integers, TensorQuantization


def average_pool(x: Integers, window: tuple[int, int], stride: int = 1) -> Integers:
    """Mean of every window (height, width) inside the map, halves away from zero (AVERAGE_POOL_2D, VALID).

    Returns
    -------
    integers [shape=(N, (H - height) // stride + 1, (W - width) // stride + 1, C)]
    """
    windows = sliding_windows(np.ascontiguousarray(x), *window, Geometry(stride))
    sums, count = windows.sum(axis=(3, 4), dtype=np.int64), window[0] * window[1]
    means: Integers = np.where(sums > 0, (sums + count // 2) // count, -((count // 2 - sums) // count))
    return means.astype(x.dtype)


def mean(x: Integers, source: TensorQuantization, output: TensorQuantization, arithmetic: Arithmetic) -> Integers:
    """Mean over all pixels (MEAN): (N, H, W, C) → (N, C)."""
    count, sums = x.shape[1] * x.shape[2], x.sum(axis=(1, 2), dtype=np.int64)
    if arithmetic == "xnnpack":
        factor, offset = mean_terms(source, output, count)
        # The zero point is added before the rounding, so it decides where ties go.
        steps = np.rint(sums.astype(np.float32) * factor + offset)
        return saturate(steps - np.float32(output.zero_point), output, arithmetic)
    return saturate(
        multiply(sums - count * source.zero_point, factor_of_sum(source, output, count)), output, arithmetic
    )


def mean_terms(
    source: TensorQuantization, output: TensorQuantization, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """XNNPACK's factor of a sum of `count` integers, and what is added to the product."""
    factor = source.scales / output.scales * (np.float32(1) / np.float32(count))
    return factor, np.float32(output.zero_point) - np.float32(count) * np.float32(source.zero_point) * factor


def factor_of_sum(source: TensorQuantization, output: TensorQuantization, count: int) -> Multiplier:
    """The reference kernels' factor of a sum of `count` integers less their zero point."""
    return _divided(quantize_multiplier(float(source.scale[0]) / output.scale[0]), count)


def _divided(by: Multiplier, count: int) -> Multiplier:
    """The factor divided by a count; moved up first as far as it goes, so that few bits are lost."""
    up = min(floor_log2(count), 32, 31 + int(by.exponent))
    return Multiplier((by.mantissa << up) // count, by.exponent - up)
