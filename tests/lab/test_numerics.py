"""Bounds and comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.lab.numerics import compare, difference, first_divergence, gamma, sum_bound


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


def test_difference() -> None:
    a = np.array([[1.0, -4.0]], np.float32)
    d = difference("x", a, a + np.array([[0, np.spacing(np.float32(4))]], np.float32))
    assert (d.ulps, d.relative) == (1.0, d.largest / 4)
    assert difference("x", a, 2 * a).cosine == pytest.approx(1)
    with pytest.raises(ValueError, match=r"x must have shape \(1, 2\) in both"):
        difference("x", a, a[0])


def test_first_divergence() -> None:
    rng = np.random.default_rng(0)
    a = {name: rng.normal(size=9).astype(np.float32) for name in "abc"}
    b = {**a, "b": a["b"] + 0.1, "c": a["c"] * np.nan}
    assert first_divergence(compare(a, b)).name == "b"
    assert first_divergence(compare(a, {"c": b["c"]})).name == "c", "NaN is a divergence"
    assert first_divergence(compare(a, a)) is None
