"""Sums and joins of feature maps."""

from __future__ import annotations

import numpy as np

from .types import Array


def add(x: Array, y: Array) -> Array:
    """Residual connection: ``x + y``, both of shape (N, H, W, C)."""
    return x + y


def concat(*maps: Array) -> Array:
    """Join feature maps (N, H, W, C₁), (N, H, W, C₂), … to (N, H, W, C₁ + C₂ + …)."""
    return np.concatenate(maps, axis=-1)
