"""The arithmetic of bfloat16: NumPy's definition against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import arrays

from npmnv2.kernels import Geometry, bfloat16

WORDS = st.integers(0, 2**32 - 1)
HALVES = st.integers(0, 2**16 - 1)
SMALLEST_NORMAL = Fraction(2) ** -126
LARGEST = {8: Fraction(255, 128) * 2**127, 24: Fraction(2**24 - 1, 2**23) * 2**127}


def float_of(bits: int) -> np.float32:
    return np.array(bits, np.uint32).view(np.float32)[()]


def nearest(exact: Fraction, digits: int) -> float:
    """The number with so many binary digits nearest to a fraction, ties to even; denormals are 0, too large ones ∞."""
    if exact == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(exact))) if abs(exact) < 2**900 else 900
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - digits + 1)
    found = round(exact / unit) * unit
    if abs(found) > LARGEST[digits]:
        return math.copysign(math.inf, found)
    return 0.0 if abs(found) < SMALLEST_NORMAL else float(found)


def flushed(x: np.float32) -> Fraction:
    """The exact value of a finite float, denormals as zero."""
    exact = Fraction(float(x))
    return exact if abs(exact) >= SMALLEST_NORMAL else Fraction(0)


@given(WORDS)
@example(0x3F808000)  # halfway between two numbers: down to the even one
@example(0x3F818000)  # and up to it
@example(0x7F7FFFFF)  # the largest float becomes ∞
@example(0x007FFFFF)  # the largest denormal becomes 0
@example(0x7F800001)  # a NaN whose upper half is that of ∞
@settings(max_examples=300)
def test_rounding_goes_to_the_nearest_number(bits: int) -> None:
    x = float_of(bits)
    (rounded,) = bfloat16.round_to_bfloat16(np.array([x]))
    assert int(rounded.view(np.uint32)) & 0xFFFF == 0
    if np.isnan(x):
        assert np.isnan(rounded)
    elif np.isinf(x):
        assert rounded == x
    else:
        assert rounded == nearest(Fraction(float(x)) if abs(x) >= float(SMALLEST_NORMAL) else Fraction(0), 8)
        assert np.signbit(rounded) == np.signbit(x)


def test_numbers_agree_with_those_of_ml_dtypes() -> None:
    types = pytest.importorskip("ml_dtypes")
    (x,) = arrays(0, (100_000,))
    np.testing.assert_array_equal(bfloat16.round_to_bfloat16(x), x.astype(types.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(bfloat16.bits(x), x.astype(types.bfloat16).view(np.uint16))


@given(WORDS, HALVES, HALVES)
@example(0x00800000, 0x0001, 0x3F80)  # a denormal factor is zero
@example(0x80800000, 0x0080, 0x3F00)  # what two normal numbers leave is denormal, so zero
@settings(max_examples=300)
def test_a_product_is_added_with_one_rounding(total: int, x: int, y: int) -> None:
    numbers = float_of(total), float_of(x << 16), float_of(y << 16)
    if not np.isfinite(numbers).all():
        return
    (found,) = bfloat16.add_product(*(bfloat16.flush(np.array([number])) for number in numbers))
    start, a, b = (flushed(number) for number in numbers)
    exact = start + a * b
    # Whether a result just below the smallest normal number is zero before or after rounding is not tested.
    if not SMALLEST_NORMAL * Fraction(2**25 - 1, 2**25) <= abs(exact) < SMALLEST_NORMAL:
        assert found == nearest(exact, 24)


def test_the_second_channel_is_added_first() -> None:
    large, small = np.float32(2.0**30), np.float32(1)
    x, y = np.array([[1, -large]], np.float32), np.array([[1, 1]], np.float32)
    total = np.array([large], np.float32)
    assert bfloat16.add_pairs(total, x, y) == small, "the large numbers cancel before 1 is added"
    assert bfloat16.add_pairs(total, x[:, ::-1], y) == 0, "1 is lost beside a large number"
    assert bfloat16.pointwise(x, y.T, total) == small
    assert bfloat16.pointwise(x[:, ::-1], y.T, total) == 0


def test_a_sum_that_is_denormal_counts_as_zero() -> None:
    smallest, denormal = (np.array([2.0**power], np.float32) for power in (-126, -127))
    one = np.ones(1, np.float32)
    assert bfloat16.add_product(denormal, smallest, one) == smallest
    assert bfloat16.add_product(smallest, -denormal, one) == 0, "and so does a result"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1e9, 1e9, width=32), WORDS)
@settings(max_examples=300)
def test_a_fused_multiply_add_rounds_once(x: float, y: float, total: int) -> None:
    start = float_of(total)
    if not np.isfinite(start):
        return
    (found,) = bfloat16.multiply_add(*(np.array([v], np.float32) for v in (x, y, start)))
    exact = Fraction(x) * Fraction(y) + Fraction(float(start))
    if SMALLEST_NORMAL * 2 < abs(exact) < LARGEST[24]:
        assert found == nearest(exact, 24)


def test_ties_that_double_precision_makes_are_none() -> None:
    """1 + 2⁻²³ + 2⁻²⁴ − 2⁻⁷⁰ lies below the middle of two floats, though a double cannot tell."""
    x, y = (np.array([(1 + sign * 2.0**-23) * 2.0**-12], np.float32) for sign in (1, -1))
    total = np.array([1 + 2.0**-23], np.float32)
    assert bfloat16.multiply_add(x, y, total) == total


def test_a_double_right_beside_a_tie_is_none() -> None:
    """1 + 2⁻²⁴ and 0.98 units of double precision: rounded up to one unit, which is not to be taken back."""
    x, y = np.array([12584515 * 2.0**-35], np.float32), np.array([5591693 * 2.0**-35], np.float32)
    exact = Fraction(12584515 * 5591693, 2**70) + 1
    assert bfloat16.multiply_add(x, y, np.ones(1, np.float32)) == nearest(exact, 24) > 1


@given(st.sampled_from([1, 2, 3, 5, 8]), st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_a_convolution_is_a_product_of_its_windows(channels: int, seed: int) -> None:
    x, kernel, bias = arrays(seed, (1, 4, 5, channels), (3, 3, channels, 3), (3,))
    x = bfloat16.round_to_bfloat16(x)
    found = bfloat16.conv(x, kernel, bias, Geometry())
    total = np.array([bias[1]])
    for a, b in np.ndindex(3, 3):
        pixel, weights = x[0, 1 + a, 2 + b], bfloat16.round_to_bfloat16(kernel[a, b, :, 1])
        for first in range(0, channels, 2):
            for c in (first + 1, first):
                factors = (pixel[c : c + 1], weights[c : c + 1]) if c < channels else np.zeros((2, 1), np.float32)
                total = bfloat16.add_product(total, *factors)
    assert found[0, 1, 2, 1] == total[0]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_sum_errs_by_its_rounded_weights_and_additions(channels: int, seed: int) -> None:
    x, kernel, bias = arrays(seed, (7, channels), (channels, 5), (5,))
    x = bfloat16.round_to_bfloat16(x)
    wide = [each.astype(np.float64) for each in (x, kernel, bias)]
    terms = np.abs(wide[0]) @ np.abs(wide[1])
    # A weight errs by half a unit in its eighth digit; each of n additions, and the sum before, in the 24th.
    limit = 2.0**-8 * terms + (channels + 2) * 2.0**-24 * (1 + 2.0**-8) * (terms + np.abs(wide[2]))
    assert (np.abs(bfloat16.pointwise(x, kernel, bias) - (wide[0] @ wide[1] + wide[2])) <= limit).all()
