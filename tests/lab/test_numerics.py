"""Bounds and comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.lab.numerics import (
    compare,
    difference,
    difference_table,
    first_divergence,
    gamma,
    mean_bound,
    not_comparable,
    sum_bound,
    verdict,
)


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


def trace(classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, 1001)).astype(np.float32)
    return {"conv": rng.normal(size=(1, 4, 4, 3)).astype(np.float32), "predictions": logits[:, 1001 - classes :]}


@pytest.mark.parametrize(("first", "second"), [(1001, 1000), (1000, 1001), (1001, 1001), (1000, 1000)])
def test_classes_are_compared_without_a_background_that_one_lacks(first, second) -> None:
    differences = compare(trace(first), trace(second))
    assert [(d.name, d.largest, d.cosine) for d in differences] == [("conv", 0, 1), ("predictions", 0, 1)]
    assert not_comparable(trace(first), trace(second)) == []
    other = trace(second)
    other["predictions"] = other["predictions"] + 1
    assert compare(trace(first), other)[1].largest == pytest.approx(1, abs=1e-6)


def test_the_background_counts_where_both_have_it() -> None:
    other = trace(1001)
    other["predictions"] = other["predictions"] + 5 * np.eye(1, 1001, dtype=np.float32)
    assert compare(trace(1001), other)[1].largest == pytest.approx(5)


def test_layers_of_other_shapes_are_named() -> None:
    a = {"same": np.ones(3, np.float32), "wide": np.ones(3, np.float32), "mine": np.ones(1, np.float32)}
    b = {"same": np.ones(3, np.float32), "wide": np.ones(4, np.float32), "theirs": np.ones(1, np.float32)}
    assert [d.name for d in compare(a, b)] == ["same"]
    assert not_comparable(a, b) == ["wide", "mine", "theirs"]


def test_units_are_those_of_the_coarser_type() -> None:
    a = np.array([1.0, 2.0])
    assert difference("x", a, np.nextafter(a.astype(np.float32), np.float32(9))).ulps == pytest.approx(1)


def test_verdicts() -> None:
    a = {"x": np.ones(3, np.float32), "y": np.ones(3, np.float32)}
    near = {**a, "y": a["y"] * np.float32(1.0001)}
    far = {**a, "y": a["y"] * np.float32(1.1)}
    assert verdict(compare(a, a), []) == (True, "all layers are equal, bit for bit")
    assert verdict(compare(a, near), []) == (True, "all layers agree within 0.001; y differs most, by 1.0e-04")
    assert verdict(compare(a, far), ["w"]) == (
        False,
        "y is the first layer that differs by more than 0.001 of its largest value (by 1.0e-01); not compared: w",
    )
    assert verdict([], list("abcde")) == (False, "the two have no layer in common; not compared: a, b, c and 2 more")
    assert verdict(compare(a, {"x": a["x"] * np.nan}), [])[0] is False


def test_the_table_has_columns_of_one_width() -> None:
    a = {"x": np.array([1.0]), "y": np.array([1.0])}
    table = difference_table(compare(a, {"x": np.array([1.5]), "y": np.array([1.0])}))
    head, *lines = table.splitlines()
    assert {len(line) for line in lines} == {len(head)}
    assert "-" not in lines[1].replace("e-", "e").replace("e+", "e")
