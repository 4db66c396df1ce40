"""Weights in the order in which the kernels read them. NumPy only, once per model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .target import Target

Floats = NDArray[np.float32]


def has_half(target: Target, channels: int) -> bool:
    """Whether a product with this many output channels ends with a tile of one and a half vectors."""
    lanes = target.lanes
    return target.halves and lanes < channels % (2 * lanes) <= lanes + lanes // 2


def pack_matrix(target: Target, kernel: Floats) -> Floats:
    """Cut a matrix (K, N) into panels of two vectors of columns, each stored as (K, columns) in one piece.

    The last panel holds the one to three vectors that are left. Columns beyond N are zeros. Where only half of the
    last vector is filled, it is filled twice (see `device.pointwise`).
    """
    lanes, count = target.lanes, target.vectors(kernel.shape[1])
    padded = _fill_half(target, _pad_columns(kernel, count * lanes), kernel.shape[1])
    starts = range(0, max(1, count // 2) * 2, 2)
    packed = np.empty(padded.size, np.float32)
    for start, stop in zip(starts, [*starts[1:], count]):
        panel = padded[:, start * lanes : stop * lanes]
        packed[start * lanes * len(panel) :][: panel.size].reshape(panel.shape)[:] = panel
    return packed


def pack_filters(target: Target, kernel: Floats) -> Floats:
    """Order depthwise filters (3, 3, C) as (vectors, 9, lanes)."""
    lanes, count = target.lanes, target.vectors(kernel.shape[2])
    padded = _pad_columns(kernel.reshape(9, -1), count * lanes)
    return padded.reshape(9, count, lanes).transpose(1, 0, 2).ravel()


def pack_bias(target: Target, bias: Floats) -> Floats:
    """Fill up a bias (N,) of a matrix to whole vectors, like the matrix."""
    padded = _pad_columns(bias[None], target.vectors(len(bias)) * target.lanes)
    return _fill_half(target, padded, len(bias)).ravel()


def _pad_columns(matrix: Floats, columns: int) -> Floats:
    values = matrix.astype(np.float32, copy=False)
    missing = columns - matrix.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing else values


def _fill_half(target: Target, padded: Floats, channels: int) -> Floats:
    half = target.lanes // 2
    if has_half(target, channels):
        padded[:, -half:] = padded[:, -2 * half : -half]
    return padded
