"""Fake quantization: floats rounded to the steps of a quantized tensor, as networks are trained for it.

Source: TensorFlow's ``core/kernels/fake_quant_ops_functor.h`` (FakeQuantWithMinMaxVars).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tensor import TensorQuantization


class FakeQuantRange(NamedTuple):
    """Ends and step of a quantized range, moved so that 0 is one of its steps; all float32."""

    low: np.float32
    high: np.float32
    scale: np.float32

    @classmethod
    def nudged(cls, low: float, high: float, *, bits: int = 8, narrow: bool = False) -> FakeQuantRange:
        """The range that TensorFlow makes of the two numbers that training found.

        Parameters
        ----------
        bits : int
        narrow : bool
            Leave the lowest step out, as weights do.
        """
        bottom, top = np.float32(narrow), np.float32((1 << bits) - 1)
        smallest, largest = np.float32(low), np.float32(high)
        scale = (largest - smallest) / (top - bottom)
        zero = bottom - smallest / scale
        zero_point = bottom if zero < bottom else top if zero > top else np.floor(zero + np.float32(0.5))
        return cls((bottom - zero_point) * scale, (top - zero_point) * scale, scale)

    @classmethod
    def from_quantization(cls, q: TensorQuantization) -> FakeQuantRange:
        """The range whose steps are the integers of a quantized tensor."""
        low, high = q.limits
        scale = np.float32(q.scale[0])
        return cls(np.float32(low - q.zero_point) * scale, np.float32(high - q.zero_point) * scale, scale)


def fake_quantize(x: NDArray[Any], steps: FakeQuantRange) -> NDArray[np.float32]:
    """Round float32 numbers to the steps of a range, and limit them to it."""
    inverse, half = np.float32(1) / steps.scale, np.float32(0.5)
    zero = np.floor(half - steps.low * inverse)
    clipped = np.clip(x.astype(np.float32), steps.low, steps.high) - steps.low
    rounded: NDArray[np.float32] = np.floor(clipped * inverse - zero + half) * steps.scale
    return rounded
