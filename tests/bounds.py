"""For every kernel, how far two correct results for the same arguments may lie apart."""

from __future__ import annotations

import naive
import numpy as np

from npmnv2.kernels import NO_CLIP, REGISTRY
from npmnv2.lab.numerics import gamma, mean_bound, sum_bound


def bound(name, arguments, dtype=np.float32):
    """An array that broadcasts to the result: the bound on its rounding errors."""
    magnitudes = [np.abs(a).astype(np.float64) if isinstance(a, np.ndarray) else a for a in arguments]
    if name in ("conv", "depthwise", "pointwise", "dense"):
        unclipped = magnitudes if name == "dense" else [*magnitudes[:-1], NO_CLIP]
        return sum_bound(REGISTRY[name].numpy(*unclipped), _terms(name, arguments[1]), dtype)
    if name in ("average_pool", "global_average_pool"):
        x = arguments[0]
        terms = arguments[1] ** 2 if name == "average_pool" else x.shape[1] * x.shape[2]
        return mean_bound(REGISTRY[name].numpy(*magnitudes), terms, dtype)
    if name == "resize_bilinear":
        # Coordinates are rounded, too: an error of γ·size in the position moves the value by the difference between
        # neighbors, which is at most twice the largest value.
        x, size, _ = arguments
        return gamma(4 * (max(*x.shape[1:3], *size) + 4), dtype) * 2 * np.abs(x).max()
    if name == "softmax":
        # The error of the exponent is that of x - max, an absolute one; exp turns it into a relative one.
        x = arguments[0].astype(np.float64)
        spread = x.max(axis=-1, keepdims=True) - x
        return (
            naive.softmax(arguments[0]) * gamma(1, dtype) * (4 * spread + 4 * x.shape[-1] + 16) + np.finfo(dtype).tiny
        )
    assert name in ("add", "concat")
    return gamma(1, dtype) * sum(np.abs(a).max() for a in arguments) if name == "add" else 0.0


def _terms(name, kernel):
    return kernel.size if name == "depthwise" and kernel.ndim == 2 else int(np.prod(kernel.shape[:-1]))


def assert_within(result, reference, limit, label=""):
    """Compare shape first, then values, and show the worst place."""
    assert result.shape == reference.shape, f"{label}: shape {result.shape}, must be {reference.shape}"
    excess = np.abs(result.astype(np.float64) - reference) - limit
    if not np.all(excess <= 0):
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
        raise AssertionError(
            f"{label}: {result[worst]!r} at {worst} must be {reference[worst]!r}, bound {np.max(limit)}"
        )
