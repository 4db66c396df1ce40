"""The classifier: a dense layer, and softmax."""

from __future__ import annotations

import numpy as np

from .types import Array


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """``y = x · kernel + bias``: (…, C) × (C, K) + (K,) → (…, K)."""
    y: Array = np.matmul(x, kernel) + bias
    return y


def softmax(x: Array) -> Array:
    """Probabilities over the last axis; the largest entry is subtracted first, so nothing overflows."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(x: Array) -> Array:
    """Logistic function, element by element; the exponential is never of a positive number, so nothing overflows."""
    power = np.exp(-np.abs(x))
    shares: Array = np.where(x >= 0, x.dtype.type(1), power) / (1 + power)
    return shares
