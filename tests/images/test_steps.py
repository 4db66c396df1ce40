"""The steps of preprocessing one by one; `test_processor.py` compares them together with other libraries."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.errors import ImageError
from npmnv2.images.loading import MAX_PIXELS
from npmnv2.images.steps import (
    CenterCrop,
    CentralFraction,
    PadAfter,
    Placement,
    Scale,
    TensorFlowResize,
    _divisor,
    rescale,
    resized_size,
)

SIDES = st.integers(1, 40)


def photo(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        ((100, 50), {"shortest_edge": 25}, (50, 25)),
        ((50, 100), {"shortest_edge": 25}, (25, 50)),
        ((7, 7), {"shortest_edge": 3}, (3, 3)),
        ((100, 50), {"height": 3, "width": 9}, (3, 9)),
        ((100, 50), {"max_height": 50, "max_width": 50}, (50, 25)),
        ((1000, 1), {"max_height": 10, "max_width": 10}, (10, 1)),
    ],
)
def test_resized_size(size, target, expected):
    assert resized_size(size, target) == expected


@pytest.mark.parametrize("rows", [1, 10])
def test_the_limit_of_a_resize_is_that_of_files(rows):
    columns = MAX_PIXELS // rows
    assert resized_size((9, 9), {"height": rows, "width": columns}) == (rows, columns)
    with pytest.raises(ImageError, match=r"9 × 9 pixels would be resized to .*; crop it first"):
        resized_size((9, 9), {"height": rows, "width": columns + 1})


def test_a_long_thin_photo_is_not_blown_up():
    with pytest.raises(ImageError, match="crop it first"):
        resized_size((1, 10_000), {"shortest_edge": 256})


@given(SIDES, SIDES, SIDES, SIDES)
def test_center_crop_cuts_or_pads_around_the_middle(height, width, rows, columns):
    pixels, step = photo(height, width), CenterCrop((rows, columns))
    out = step(pixels)
    assert out.shape == (rows, columns, 3)
    top, left = (height - rows) // 2, (width - columns) // 2
    for i, j in np.ndindex(rows, columns):
        y, x = i + top, j + left
        inside = 0 <= y < height and 0 <= x < width
        npt.assert_array_equal(out[i, j], pixels[y, x] if inside else 0)
    assert step.place(Placement((height, width), (height, width))).offset == (-top, -left)


@given(SIDES, SIDES, st.floats(0.1, 1))
def test_central_fraction_is_centered(height, width, fraction):
    pixels, step = photo(height, width), CentralFraction(fraction)
    placement = step.place(Placement((height, width), (height, width)))
    top, left = (int(-offset) for offset in placement.offset)
    out = step(pixels)
    assert out.shape[:2] == placement.size == (height - 2 * top, width - 2 * left)
    npt.assert_array_equal(out, pixels[top : height - top, left : width - left])


@pytest.mark.parametrize(("value", "dtype"), [(0, np.uint8), (127, np.uint8), (127.5, np.float32)])
def test_padding_holds_its_value(value, dtype):
    out = PadAfter((5, 7), value)(photo(4, 4))
    assert out.dtype == dtype
    npt.assert_array_equal(out[:4, :4], photo(4, 4))
    npt.assert_array_equal(out[4:], value)
    npt.assert_array_equal(out[:, 4:], value)


@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_padding_does_not_cut(size):
    with pytest.raises(ImageError, match=r"pad_size .* must be at least the size of the image, got 4 × 4"):
        PadAfter(size, 0)(photo(4, 4))
    with pytest.raises(ImageError, match="pad_size"):
        PadAfter(size, 0).place(Placement((4, 4), (4, 4)))


def test_scale_by_channel():
    step = Scale(1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    ref = (photo(3, 5) / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
    npt.assert_allclose(step(photo(3, 5)), ref, rtol=1e-5, atol=1e-6)
    assert Scale()(photo(3, 5)).dtype == np.uint8
    with pytest.raises(ImageError, match="one entry per channel, got an image of 1 channels"):
        step(photo(3, 5, 1))


@given(st.one_of(st.sampled_from([1 / 255, 1 / 127.5, 1 / 256, 2 / 255, 0.1, 0.0, -1.0, 1e-300]), st.floats(width=64)))
def test_bytes_are_rescaled_to_the_same_bits_by_either_way(factor):
    every_byte = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    with np.errstate(all="ignore"):
        expected = (every_byte * np.float64(factor)).astype(np.float32)
        npt.assert_array_equal(rescale(every_byte, factor), expected)


def test_the_usual_factor_needs_one_division():
    assert _divisor(1 / 255) == 255
    assert _divisor(0.1) == 10
    assert _divisor(0.3) is None


def test_rescale_rounds_once():
    values = photo(9, 9)
    npt.assert_array_equal(rescale(values, 0.1), (values * np.float64(0.1)).astype(np.float32))


def test_steps_do_not_change_their_argument():
    pixels = photo(9, 9).astype(np.float32)
    before = pixels.copy()
    for step in (
        CenterCrop((5, 11)), CentralFraction(0.5), PadAfter((11, 11), 1), Scale(0.5, 0.5, 0.5),
        TensorFlowResize({"height": 4, "width": 4}, "half_pixel"),
    ):  # fmt: skip
        step(pixels)
        npt.assert_array_equal(pixels, before)


@given(SIDES, SIDES, SIDES, SIDES)
def test_content_is_where_the_photo_lies(height, width, rows, columns):
    """A photo of ones on an input of zeros."""
    step = CenterCrop((rows, columns))
    placement = step.place(Placement((height, width), (height, width)))
    out = step(np.ones((height, width, 1), np.uint8))[..., 0]
    inside = np.zeros_like(out)
    inside[placement.content] = 1
    npt.assert_array_equal(out, inside)
