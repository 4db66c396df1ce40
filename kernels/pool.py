"""Average pooling, over a fixed window or over the whole map.

Sums are taken in double precision, so that their error does not grow with the map.
"""

from __future__ import annotations

import numpy as np

from .conv import sliding_windows
from .padding import Geometry
from .types import Array


def average_pool(x: Array, window: int, stride: int = 1) -> Array:
    """Mean of every `window` × `window` square that lies wholly inside the map (VALID, no padding).

    Parameters
    ----------
    x : Array [shape=(N, H, W, C)]
        H and W are at least `window`.

    Returns
    -------
    Array [shape=(N, (H - window) // stride + 1, (W - window) // stride + 1, C)]
    """
    windows = sliding_windows(np.ascontiguousarray(x), window, window, Geometry(stride))
    means: Array = windows.mean(axis=(3, 4), dtype=np.float64).astype(x.dtype)
    return means


def global_average_pool(x: Array) -> Array:
    """Mean over all pixels: (N, H, W, C) → (N, C)."""
    means: Array = x.mean(axis=(1, 2), dtype=np.float64).astype(x.dtype)
    return means
