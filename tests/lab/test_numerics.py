"""Bounds on rounding errors."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.lab.numerics import gamma, mean_bound, sum_bound


def test_gamma_is_the_textbook_value() -> None:
    assert gamma(1) == pytest.approx(2**-24, rel=1e-6)
    assert gamma(1000, np.float64) == pytest.approx(1000 * 2**-53, rel=1e-6)


def test_sum_bound_holds_and_is_not_idle() -> None:
    """Sums in two orders stay within the bound, and come within a factor of 100 of it at 20 terms."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 20)).astype(np.float32)
    forward, backward = np.cumsum(x, 1)[:, -1], np.cumsum(x[:, ::-1], 1)[:, -1]
    limit = sum_bound(np.abs(x).sum(1), 20)
    share = np.abs(forward.astype(float) - backward) / limit
    assert 0.01 < share.max() <= 1


def test_sum_bound_counts_products_bias_and_one_to_spare() -> None:
    assert sum_bound(np.float64(3.0), 10) == pytest.approx(2 * 3 * 12 * 2**-24, rel=1e-5)


@pytest.mark.parametrize("pixels", [1, 49, 513 * 1025])
def test_mean_bound_does_not_grow_with_the_map(pixels: int) -> None:
    assert mean_bound(np.float64(3.0), pixels) == pytest.approx(2 * 3 * 2**-24, rel=2e-3)
    assert mean_bound(np.float64(3.0), pixels, np.float64) == pytest.approx(2 * 3 * (pixels + 1) * 2**-53, rel=1e-6)
