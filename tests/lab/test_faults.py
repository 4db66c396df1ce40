"""Each fault as the change of a layer that it is, against the layer computed with that fault from scratch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.kernels import RELU6, Geometry, depthwise, same_padding
from npmnv2.lab.faults import (
    FAULTS,
    LAYOUTS,
    Call,
    Suspect,
    batch_norms,
    fitted_line,
    hypotheses,
    other_batch_norm,
    padded_or_cropped,
)
from npmnv2.network.layers import Add, Concat, Conv, Dense, Depthwise
from npmnv2.network.plan import Part

RNG = np.random.default_rng(0)
X = RNG.normal(0, 2, (1, 5, 6, 2))
KERNEL, BIAS = RNG.normal(0, 1, (3, 3, 2)), RNG.normal(0, 1, 2)
SAME = Geometry(1, 1, ((1, 1), (1, 1)))
FILTER = Call(Part("filter", Depthwise(norm=None), ("image",)), (X,), KERNEL, BIAS, SAME, "relu6")
DENSE = Call(Part("dense", Dense(3), ("image",)), (X[0, 0],), RNG.normal(0, 1, (2, 3)), RNG.normal(0, 1, 3))
SUM = Call(Part("sum", Add(), ("a", "b")), (X, X[:, ::-1]), compute=np.add)


def by_fault(call: Call, seen=None, weights=None) -> dict[str, list]:
    found: dict[str, list] = {}
    for hypothesis in hypotheses(Suspect(call, seen, weights or {})):
        found.setdefault(hypothesis.fault, []).append(hypothesis)
    assert set(found) <= set(FAULTS)
    assert all(each.sentence.startswith(FAULTS[fault]) for fault, several in found.items() for each in several)
    return found


def test_a_call_is_the_layer() -> None:
    np.testing.assert_array_equal(FILTER.value(), depthwise(X, KERNEL, BIAS, SAME, RELU6))
    assert FILTER.linear().min() < 0 < 6 < FILTER.linear().max()
    np.testing.assert_array_equal(SUM.value(), X + X[:, ::-1])
    np.testing.assert_allclose(DENSE.value(), DENSE.inputs[0] @ DENSE.kernel + DENSE.bias)
    after = replace(FILTER, after=(lambda y: y + 1, lambda y: 2 * y))
    np.testing.assert_array_equal(after.value(), 2 * (FILTER.value() + 1), "in order, after the activation")


def test_pads_that_are_negative_crop() -> None:
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    found = padded_or_cropped(x, ((-1, 1), (2, -3)))[0, ..., 0]
    assert found.tolist() == [[0, 0, 4], [0, 0, 8], [0, 0, 0]]


@pytest.mark.parametrize(("down", "across"), [(1, 0), (0, -1), (-1, 1)])
def test_windows_that_begin_elsewhere(down: int, across: int) -> None:
    (found,) = (h.call.linear() for h in by_fault(FILTER)["padding"] if h.evidence == {"down": down, "across": across})
    assert found.shape == FILTER.linear().shape
    inside = FILTER.linear()[:, 1:-1, 1:-1]
    np.testing.assert_allclose(found[:, 1 + down : 4 + down, 1 + across : 5 + across], inside)


def test_padding_that_is_left_out_or_on_both_sides() -> None:
    *shifts, bare, both = by_fault(FILTER)["padding"]
    assert len(shifts) == 8
    assert bare.call.value().shape == (1, 3, 4, 2)
    np.testing.assert_array_equal(bare.call.value(), FILTER.value()[:, 1:-1, 1:-1])
    assert both.call.geometry.padding == ((1, 1), (1, 1))
    unpadded = replace(FILTER, geometry=SAME._replace(padding=((0, 0), (0, 0))))
    assert len(by_fault(unpadded)["padding"]) == 9, "without padding none can be left out"


def test_kernels_that_are_turned() -> None:
    found = by_fault(FILTER)
    (swapped,) = found["kernel_transposed"]
    np.testing.assert_array_equal(swapped.call.kernel, KERNEL.transpose(1, 0, 2))
    half, vertical, horizontal = (h.call.kernel for h in found["kernel_flipped"])
    np.testing.assert_array_equal(half, np.rot90(KERNEL, 2))
    np.testing.assert_array_equal(vertical, np.flipud(KERNEL))
    np.testing.assert_array_equal(horizontal, np.fliplr(KERNEL))


def test_dilations_and_strides_keep_windows_centered() -> None:
    found = by_fault(FILTER)
    geometries = [h.call.geometry for h in found["dilation"]]
    assert [(g.stride, g.dilation) for g in geometries] == [(1, 2), (1, 4), (1, 8), (1, 16)]
    assert all(g.padding == ((g.dilation,) * 2,) * 2 for g in geometries)
    (stride,) = found["stride"]
    assert stride.call.geometry == Geometry(2, 1, (same_padding(5, 3, 2), same_padding(6, 3, 2)))
    strided = replace(FILTER, geometry=Geometry(2, 1, SAME.padding))
    assert [h.evidence for h in by_fault(strided)["stride"]] == [{"stride": 1.0, "dilation": 1.0}]


def test_other_activations() -> None:
    found = {h.evidence["activation"]: h.call.value() for h in by_fault(FILTER)["activation"]}
    assert "relu6" not in found
    np.testing.assert_array_equal(found["linear"], FILTER.linear())
    np.testing.assert_array_equal(found["relu"], np.maximum(FILTER.linear(), 0))
    np.testing.assert_allclose(found["tanh"], np.tanh(FILTER.linear()))


def test_batch_norms_that_are_folded_otherwise() -> None:
    gamma, beta, mean, variance = RNG.uniform(0.5, 2, (4, 2))
    scale = gamma / np.sqrt(variance + 1e-3)
    call = replace(FILTER, kernel=KERNEL * scale, bias=beta - mean * scale, activation="linear")
    call = replace(call, part=Part("filter", Depthwise(norm=1e-3), ("image",)))
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {f"filter_BN/{name}": value for name, value in zip(names, (gamma, beta, mean, variance))}
    found = by_fault(call, weights=weights)
    raw = depthwise(X, KERNEL, np.zeros(2), SAME, (-np.inf, np.inf))

    def norm(y, epsilon):
        return (y - mean) / np.sqrt(variance + epsilon) * gamma + beta

    np.testing.assert_allclose(call.value(), norm(raw, 1e-3))
    assert [h.evidence["epsilon"] for h in found["epsilon"]] == [1e-2, 1e-4, 1e-5, 1e-6, 0.0]
    for hypothesis in found["epsilon"]:
        np.testing.assert_allclose(hypothesis.call.value(), norm(raw, hypothesis.evidence["epsilon"]))
    bare, shift, offset = (h.call.value() for h in found["batch_norm_missing"])
    np.testing.assert_allclose(bare, raw)
    np.testing.assert_allclose(shift, raw + beta - mean * scale)
    np.testing.assert_allclose(offset, raw + beta)
    twice, kernel = (h.call.value() for h in found["batch_norm_twice"])
    np.testing.assert_allclose(twice, norm(norm(raw, 1e-3), 1e-3))
    np.testing.assert_allclose(kernel, raw * scale**2 + beta - mean * scale)
    assert not list(batch_norms(Suspect(call, None, {}))), "a reference without batch norms cannot tell"
    dead = {**weights, "filter_BN/moving_variance": np.array([0.0, 1.0])}
    assert 0.0 not in [h.evidence["epsilon"] for h in by_fault(call, weights=dead)["epsilon"]]


def test_residuals_that_are_missing_or_too_many() -> None:
    found = by_fault(SUM)
    (missing,), (extra,) = found["residual_missing"], found["residual_extra"]
    np.testing.assert_array_equal(missing.call.value(), X)
    np.testing.assert_array_equal(extra.call.value(), X + 2 * X[:, ::-1])
    assert not {"layout", "padding", "class_shift"} & set(found)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_layouts_undo_each_other(height: int, width: int, channels: int) -> None:
    x = np.arange(2.0 * height * width * channels).reshape(2, height, width, channels)
    mixed = LAYOUTS["channels first read as channels last"](x)
    # The same numbers in memory as a channels-first array.
    assert mixed.ravel().tolist() == np.moveaxis(x, -1, 1).ravel().tolist()
    np.testing.assert_array_equal(LAYOUTS["channels last read as channels first"](mixed), x)
    np.testing.assert_array_equal(LAYOUTS["height and width swapped"](x), np.moveaxis(x, 2, 1))
    flat = x[:, 0, 0]
    assert all(change(flat) is flat for change in LAYOUTS.values())


def test_classes_that_are_shifted() -> None:
    value = DENSE.value()
    high, low = by_fault(DENSE, value)["class_shift"]
    np.testing.assert_array_equal(high.call.value(), value[:, [2, 0, 1]])
    np.testing.assert_array_equal(low.call.value(), value[:, [1, 2, 0]])
    (last,) = by_fault(DENSE, value[:, 1:])["class_shift"]
    np.testing.assert_array_equal(last.call.value(), value[:, :2])
    assert "class_shift" not in by_fault(DENSE, value[:, :1])
    assert "class_shift" not in by_fault(DENSE)


@given(st.floats(-3, 3), st.floats(-5, 5), st.integers(0, 100))
def test_a_line_is_found_again(gain: float, offset: float, seed: int) -> None:
    z = np.random.default_rng(seed).normal(0, 1, (1, 4, 5, 3))
    y = gain * z + offset
    use = np.ones(z.shape, bool)
    use[0, 0], y[0, 0] = False, 1e6  # what is not to be used
    found = fitted_line(z, y, use)
    np.testing.assert_allclose(found[0], [gain] * 3, atol=1e-12)
    np.testing.assert_allclose(found[1], [offset] * 3, atol=1e-12)


def test_a_line_through_one_value_has_the_gain_1() -> None:
    gain, offset = fitted_line(np.full((1, 2, 2, 1), 3.0), np.full((1, 2, 2, 1), 5.0), np.ones((1, 2, 2, 1), bool))
    assert (gain.item(), offset.item()) == (1.0, 2.0)


def test_another_batch_norm_is_fitted_to_what_is_not_cut_off() -> None:
    x = np.random.default_rng(1).normal(0, 1, (1, 9, 9, 2))
    call = replace(FILTER, inputs=(x,))
    gain, offset = np.array([0.5, 2.0]), np.array([1.0, -0.5])
    seen = np.clip(call.linear() * gain + offset, *RELU6)
    found = other_batch_norm(Suspect(call, seen))
    assert found is not None
    assert found.evidence == {"gain": pytest.approx(1.25), "offset": pytest.approx(0.25)}
    np.testing.assert_allclose(found.call.value(), seen, atol=1e-12)
    assert other_batch_norm(Suspect(call, seen[:, 1:])) is None
    assert other_batch_norm(Suspect(call, np.zeros_like(seen))) is None, "all is cut off"
    assert other_batch_norm(Suspect(call, None)) is None
    assert other_batch_norm(Suspect(SUM, X)) is None


def test_pointwise_layers_have_no_windows() -> None:
    part = Part("project", Conv(kernel=1, filters=3, norm=None), ("image",))
    call = Call(part, (X,), RNG.normal(0, 1, (2, 3)), np.zeros(3), Geometry(1, 1, ((0, 0), (0, 0))))
    assert set(by_fault(call)) == {"activation", "layout"}
    assert set(by_fault(Call(Part("join", Concat(), ("a", "b")), (X, X), compute=lambda a, b: a))) == {"layout"}
