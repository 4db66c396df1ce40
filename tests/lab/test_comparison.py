"""Differences of layers, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from npmnv2.errors import ArgumentError
from npmnv2.lab.comparison import (
    HISTOGRAM_ENDS,
    Comparison,
    Finding,
    compare_traces,
    decibels,
    difference_table,
    layer_difference,
    not_comparable,
)

ONE = np.array([[1.0, -4.0]], np.float32)


def comparison(a, b, **fields) -> Comparison:
    return Comparison("a", "b", compare_traces(a, b), **fields)


def test_layer_difference() -> None:
    d = layer_difference("x", ONE, ONE + np.array([[0, np.spacing(np.float32(4))]], np.float32))
    assert (d.name, d.shape, d.scale, d.differing) == ("x", (1, 2), 4, 0.5)
    assert d.ulps == pytest.approx((0.5, 0.9, 0.99, 1.0))
    assert (d.largest, d.mean, d.relative) == (2**-21, 2**-22, 2**-23)
    assert d.snr == pytest.approx(10 * math.log10(17 * 2**42))
    assert layer_difference("x", ONE, 2 * ONE).cosine == pytest.approx(1)
    with pytest.raises(ArgumentError, match=r"x must have shape \(1, 2\) in both"):
        layer_difference("x", ONE, ONE[0])


def test_units_are_those_of_the_coarser_type_and_of_each_value() -> None:
    a = np.array([1.0, 2.0, 0.25])
    assert layer_difference("x", a, np.nextafter(a.astype(np.float32), np.float32(9))).ulps.median == pytest.approx(1)
    zero = layer_difference("x", np.array([0.0, 1.0], np.float32), np.array([2**-23, 1.0], np.float32))
    assert zero.ulps.largest == pytest.approx(2**23), "a zero counts as epsilon of the largest value"


def test_equal_values_and_nan() -> None:
    d = layer_difference("x", ONE, ONE)
    assert (d.largest, d.cosine, d.snr, d.differing, d.histogram[0]) == (0, 1, math.inf, 0, 2)
    assert d.ulps == (0, 0, 0, 0)
    bad = layer_difference("x", ONE, ONE * np.nan)
    assert math.isnan(bad.largest)
    assert not bad.within(1e-3)
    assert bad.histogram[-1] == 2


def test_histogram_counts_every_value_once() -> None:
    b = np.array([0, 5e-7, 5e-4, 2])
    d = layer_difference("x", np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0]) + b)
    assert sum(d.histogram) == 4
    assert [at for at, count in enumerate(d.histogram) if count] == [0, HISTOGRAM_ENDS.index(1e-6), 6, 10]


def test_error_map_is_the_mean_over_batch_and_channels() -> None:
    a, b = np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5))
    b[0, 1, 2] = 1  # of all channels, in one of two images
    error_map = layer_difference("x", a, b).error_map
    assert error_map is not None
    assert error_map.shape == (3, 4)
    assert error_map[1, 2] == 0.5
    assert error_map.sum() == 0.5


def test_steps_of_quantized_layers() -> None:
    d = layer_difference("x", ONE, ONE + 1, scale=0.5)
    assert d.steps == 2
    assert not d.within(1)
    assert layer_difference("x", ONE, ONE + 1, scale=1.0).within(1e-9), "one step is rounding"
    assert "steps" in difference_table([d]).splitlines()[0]
    assert comparison({"x": ONE}, {"x": ONE}).layers[0].steps is None


def test_decibels() -> None:
    assert (decibels(1, 0), decibels(0, 1), decibels(100, 1)) == (math.inf, -math.inf, 20)


def test_first_divergence() -> None:
    rng = np.random.default_rng(0)
    a = {name: rng.normal(size=9).astype(np.float32) for name in "abc"}
    b = {**a, "b": a["b"] + 0.1, "c": a["c"] * np.nan}
    assert comparison(a, b).first_divergent.name == "b"
    assert comparison(a, b).worst.name == "c"
    assert comparison(a, {"c": b["c"]}).first_divergent.name == "c", "NaN is a divergence"
    assert comparison(a, a).first_divergent is None


def trace(classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, 1001)).astype(np.float32)
    return {"conv": rng.normal(size=(1, 4, 4, 3)).astype(np.float32), "predictions": logits[:, 1001 - classes :]}


@pytest.mark.parametrize(("first", "second"), [(1001, 1000), (1000, 1001), (1001, 1001), (1000, 1000)])
def test_classes_are_compared_without_a_background_that_one_lacks(first, second) -> None:
    layers = compare_traces(trace(first), trace(second))
    assert [(d.name, d.largest, d.cosine) for d in layers] == [("conv", 0, 1), ("predictions", 0, 1)]
    assert not_comparable(trace(first), trace(second)) == ()
    other = trace(second)
    other["predictions"] = other["predictions"] + 1
    assert compare_traces(trace(first), other)[1].largest == pytest.approx(1, abs=1e-6)


def test_the_background_counts_where_both_have_it() -> None:
    other = trace(1001)
    other["predictions"] = other["predictions"] + 5 * np.eye(1, 1001, dtype=np.float32)
    assert compare_traces(trace(1001), other)[1].largest == pytest.approx(5)


def test_layers_of_other_shapes_are_named() -> None:
    a = {"same": np.ones(3, np.float32), "wide": np.ones(3, np.float32), "mine": np.ones(1, np.float32)}
    b = {"same": np.ones(3, np.float32), "wide": np.ones(4, np.float32), "theirs": np.ones(1, np.float32)}
    assert [d.name for d in compare_traces(a, b)] == ["same"]
    assert not_comparable(a, b) == ("wide", "mine", "theirs")


def test_verdicts() -> None:
    a = {"x": np.ones(3, np.float32), "y": np.ones(3, np.float32)}
    near = {**a, "y": a["y"] * np.float32(1.0001)}
    far = {**a, "y": a["y"] * np.float32(1.1)}
    assert (comparison(a, a).agree, comparison(a, a).verdict) == (True, "all layers are equal, bit for bit")
    assert comparison(a, near).verdict == "all layers agree within 0.001; y differs most, by 1.0e-04"
    found = comparison(a, far, left_out=("w",))
    assert not found.agree
    assert found.verdict == (
        "y is the first layer that differs by more than 0.001 of its largest value (by 1.0e-01); not compared: w"
    )
    nothing = comparison({}, {}, left_out=tuple("abcde"))
    assert (nothing.agree, nothing.worst) == (False, None)
    assert nothing.verdict == "the two have no layer in common; not compared: a, b, c and 2 more"
    steps = Comparison("a", "b", compare_traces(a, far, {"y": 0.01}))
    assert steps.verdict == "y is the first layer that differs by more than rounding (by 10.0 steps)"


FINDING = Finding("padding", "Conv1", "shifted by a pixel", {"error_before": 0.5, "error_after": 1e-7})


def test_findings_come_first() -> None:
    found = comparison({"x": ONE}, {"x": ONE}, findings=(FINDING, FINDING))
    assert not found.agree
    assert found.verdict == "Conv1 is the first layer with a known fault: shifted by a pixel; 1 more"
    assert str(FINDING) == "Conv1: shifted by a pixel [padding; error_before 0.5, error_after 1e-07]"
    assert str(FINDING) in str(found)


def test_text_and_json() -> None:
    a = {"x": np.array([1.0]), "y": np.array([1.0])}
    found = comparison(a, {"x": np.array([1.5]), "y": np.array([1.0])}, findings=(FINDING,), remarks=("a remark",))
    lines = str(found).splitlines()
    assert lines[:3] == ["reference: a", "other:     b", ""]
    assert lines[-2:] == ["a remark", found.verdict]
    head, *rows = difference_table(found.layers).splitlines()
    assert {len(row) for row in rows} == {len(head)}
    data = json.loads(found.to_json())
    assert data == found.to_dict()
    assert data["layers"][1]["snr"] is None, "infinity is no JSON"
    assert [layer["name"] for layer in data["layers"]] == ["x", "y"]
    assert data["findings"][0]["evidence"] == FINDING.evidence


def test_a_comparison_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison({}, {}).tolerance = 1
