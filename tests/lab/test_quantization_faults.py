"""Scales, zero points and roundings of one quantized layer that are not the reference's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.lab.faults import Call, Suspect
from npmnv2.lab.quantization_faults import quantization_hypotheses
from npmnv2.network.layers import Add
from npmnv2.network.plan import Part

SCALE, LIMITS = 0.25, (-32.0, 31.75)
EXACT = np.random.default_rng(0).uniform(-20, 20, (1, 6, 6, 2))
EXPECTED = np.rint(EXACT / SCALE) * SCALE


def found(seen, expected=EXPECTED, exact=EXACT):
    call = Call(Part("sum", Add(), ("a", "b")), (exact, exact), compute=lambda *_: expected)
    return list(quantization_hypotheses(Suspect(call, seen), exact, SCALE, LIMITS))


@pytest.mark.parametrize(("how", "rounding"), [("down", np.floor), ("up", np.ceil), ("toward zero", np.trunc)])
def test_roundings(how: str, rounding) -> None:
    seen = rounding(EXACT / SCALE) * SCALE
    (right,) = (h for h in found(seen) if h.sentence.endswith(f": {how}"))
    assert right.fault == "quantization_rounding"
    np.testing.assert_array_equal(right.call.value(), seen)
    assert right.evidence["mean_steps"] == pytest.approx((seen - EXPECTED).mean() / SCALE)


@given(st.sampled_from([0.5, 0.9, 1.1, 2.0]))
def test_another_scale(gain: float) -> None:
    first = found(EXPECTED * gain)[0]
    if gain == 2.0:  # some values are beyond the limits, and are not used
        assert first.evidence["gain"] == pytest.approx(gain)
    assert first.fault == "quantization_scale"
    assert first.sentence.endswith(f": {gain:.4g} times the scale")
    np.testing.assert_allclose(first.call.value(), EXPECTED * gain)


@given(st.integers(1, 9), st.sampled_from([-1, 1]))
def test_another_zero_point(steps: int, sign: int) -> None:
    """A zero point that is too high makes the real numbers too small."""
    moved = np.clip(EXPECTED + sign * steps * SCALE, *LIMITS)
    hypotheses = [h for h in found(moved) if "zero point" in h.sentence]
    (shift,) = hypotheses
    assert shift.sentence.endswith(f"is off by {-sign * steps}")
    assert shift.evidence == {"steps": sign * steps}
    np.testing.assert_array_equal(shift.call.value(), moved)


@pytest.mark.parametrize(("sign", "limit"), [(1, LIMITS[1]), (-1, LIMITS[0])])
def test_a_shifted_value_stays_within_its_type(sign: int, limit: float) -> None:
    expected = np.append(EXPECTED.ravel(), limit)
    seen = np.clip(expected + 2 * sign * SCALE, *LIMITS)
    (shift,) = (h for h in found(seen, expected, expected) if "zero point" in h.sentence)
    assert shift.call.value()[-1] == limit


def test_what_rounding_does_to_a_fit_is_no_other_scale() -> None:
    assert {h.fault for h in found(EXPECTED * 1.005)} == {"quantization_rounding"}
    assert {h.fault for h in found(EXPECTED + 0.4 * SCALE)} == {"quantization_rounding"}


def test_too_few_values_tell_nothing() -> None:
    few = EXPECTED.ravel()[:15]
    assert {h.fault for h in found(2 * few, few, few)} == {"quantization_rounding"}
    enough = EXPECTED.ravel()[:16]
    assert "quantization_scale" in {h.fault for h in found(0.5 * enough, enough, enough)}
    assert found(None) == []
    assert found(EXPECTED[:, 1:]) == []
