"""The operations of `npmnv2.kernels` in Numba. Importing this package imports Numba; only the Numba backend does."""

from .arrays import (
    add,
    average_pool,
    concat,
    conv,
    dense,
    depthwise,
    global_average_pool,
    pointwise,
    resize_bilinear,
)

__all__ = [
    "add",
    "average_pool",
    "concat",
    "conv",
    "dense",
    "depthwise",
    "global_average_pool",
    "pointwise",
    "resize_bilinear",
]
