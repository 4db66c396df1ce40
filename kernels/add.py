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


def concat_rows(*maps: Array, columns: int) -> Array:
    """Cut the pixels of maps of any sizes into rows of `columns` numbers, and join them to (N, rows, columns).

    A detector's predictions: each pixel has one row for every anchor, and maps follow one another.
    """
    return np.concatenate([x.reshape(len(x), -1, columns) for x in maps], axis=1)
