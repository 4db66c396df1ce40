"""Activations as a clip range: ReLU6 is (0, 6), ReLU (0, ∞) and no activation (−∞, ∞)."""

from __future__ import annotations

import math

import numpy as np

from .types import Array

Clip = tuple[float, float]

NO_CLIP: Clip = (-math.inf, math.inf)
RELU: Clip = (0.0, math.inf)
RELU6: Clip = (0.0, 6.0)


def clip_in_place(x: Array, clip: Clip) -> None:
    """Limit `x` to the range `clip`; NaN stays NaN. Infinite ends cost nothing."""
    low, high = clip
    if low > -math.inf:
        np.maximum(x, x.dtype.type(low), out=x)
    if high < math.inf:
        np.minimum(x, x.dtype.type(high), out=x)
