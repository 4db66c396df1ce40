"""From exact 32-bit sums back to eight bits: the one place where the arithmetics differ for convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fixed_point import multiply, quantize_multiplier
from .tensor import Arithmetic, Integers, TensorQuantization


def rescale(
    sums: NDArray[np.int64],
    x: TensorQuantization,
    kernel: TensorQuantization,
    output: TensorQuantization,
    arithmetic: Arithmetic,
) -> Integers:
    """Bring sums of products, one unit of which is ``x.scale · kernel.scale``, to the scale of the output.

    Parameters
    ----------
    sums : int64 [shape=(…, C)]
        Within the range of int32.

    Returns
    -------
    integers [shape=(…, C)]
        Of the output's type.
    """
    if arithmetic == "xnnpack":
        low, high = clip_range(output, arithmetic)
        factor = x.scales * kernel.scales / output.scales
        # Sums beyond 2²⁴ are rounded here, as XNNPACK rounds them.
        scaled = sums.astype(np.float32) * factor
        np.clip(scaled, np.float32(low - output.zero_point), np.float32(high - output.zero_point), out=scaled)
        return (np.rint(scaled, out=scaled) + np.float32(output.zero_point)).astype(output.dtype)
    return saturate(multiply(sums, quantize_multiplier(reference_factor(x, kernel, output))), output, arithmetic)


def reference_factor(
    x: TensorQuantization, kernel: TensorQuantization, output: TensorQuantization
) -> NDArray[np.float64]:
    """The factor from sums to outputs.

    TensorFlow Lite multiplies uint8's two scales in float32, and those of int8 in float64.
    """
    dtype = np.float32 if x.dtype == "uint8" else np.float64
    product = (x.scales.astype(dtype) * kernel.scales.astype(dtype)).astype(np.float64)
    factor: NDArray[np.float64] = product / output.scales.astype(np.float64)
    return factor


def saturate(steps: NDArray[Any], output: TensorQuantization, arithmetic: Arithmetic) -> Integers:
    """Add the zero point to whole steps of the output's scale, and limit the sum to what the output allows."""
    limited: Integers = np.clip(steps + output.zero_point, *clip_range(output, arithmetic)).astype(output.dtype)
    return limited


def clip_range(output: TensorQuantization, arithmetic: Arithmetic) -> tuple[int, int]:
    """Smallest and largest integer that the type and the activation allow."""
    low, high = output.limits
    if output.activation in ("relu", "relu6"):
        low = max(low, output.zero_point)
    if output.activation == "relu6":
        six = np.float32(6) / np.float32(output.scale[0])
        # Halves go to even in XNNPACK, away from zero in TensorFlow Lite.
        steps = round(float(six)) if arithmetic == "xnnpack" else math.floor(float(six) + 0.5)
        high = min(high, output.zero_point + steps)
    return low, high
