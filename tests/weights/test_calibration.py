"""Ranges from samples: extremes, percentiles, least error."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.errors import ArgumentError
from npmnv2.weights.calibration import Calibration, check_method


def calibrated(method, *arrays, percentile=99.0):
    calibration = Calibration()
    for x in arrays:
        calibration.widen({"x": x})
    for x in arrays:
        calibration.count({"x": x})
    return calibration.settle(method, percentile)["x"]


def test_extremes_over_all_samples() -> None:
    assert calibrated("minmax", np.array([1.0, 2.0]), np.array([-3.0, 0.0])) == (-3.0, 2.0)


def test_percentile_leaves_as_much_out_at_either_end() -> None:
    x = np.random.default_rng(0).uniform(0, 1000, 100_000)
    low, high = calibrated("percentile", x[:50_000], x[50_000:], percentile=90.0)
    assert low == pytest.approx(50, abs=2)
    assert high == pytest.approx(950, abs=2)
    assert calibrated("percentile", x, percentile=100) == pytest.approx((x.min(), x.max()))


def test_least_error_gives_up_outliers_and_nothing_else() -> None:
    x = np.random.default_rng(0).normal(size=100_000)
    with_outlier = np.append(x, 14.0)
    low, high = calibrated("mse", with_outlier)
    assert high < 14
    assert calibrated("mse", np.random.default_rng(0).uniform(-1, 1, 10_000)) == pytest.approx((-1, 1), abs=0.02)

    def error(top, bottom):
        step = (top - bottom) / 255
        return np.mean((np.clip(np.rint(with_outlier / step) * step, bottom, top) - with_outlier) ** 2)

    assert error(high, low) < error(14.0, with_outlier.min())


@pytest.mark.parametrize(
    ("method", "percentile", "problem"),
    [("max", 99, r"method \(='max'\) must be one of minmax, percentile, mse"), ("mse", 50, "percentile"),
     ("mse", 100.5, "percentile")],
)  # fmt: skip
def test_impossible_choices(method, percentile, problem) -> None:
    with pytest.raises(ArgumentError, match=problem):
        check_method(method, percentile)
