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
    """Limit `x` to the range `clip`; NaN stays NaN. No clip costs nothing."""
    if clip != NO_CLIP:
        # One pass; np.maximum and np.minimum, which look for NaN, take several times as long.
        np.clip(x, x.dtype.type(clip[0]), x.dtype.type(clip[1]), out=x)
