"""Naive loops against the NumPy kernels, over the whole registry."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from bounds import assert_within, bound
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import KERNEL_ARGUMENTS

from npmnv2.kernels import (
    REGISTRY,
    RELU6,
    Geometry,
    clip_in_place,
    conv,
    depthwise,
    output_size,
    pointwise,
    same_padding,
)


def test_every_kernel_has_arguments_and_a_naive_twin() -> None:
    assert set(KERNEL_ARGUMENTS) == set(REGISTRY)
    assert all(hasattr(naive, name) for name in REGISTRY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", REGISTRY)
@settings(max_examples=25)
@given(data=st.data())
def test_numpy_agrees_with_naive_loops(name: str, dtype: type, data: st.DataObject) -> None:
    arguments = data.draw(KERNEL_ARGUMENTS[name])
    arguments = tuple(a.astype(dtype) if isinstance(a, np.ndarray) else a for a in arguments)
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    comp = REGISTRY[name].numpy(*arguments)
    assert comp.dtype == dtype
    # Resize computes its coordinates in float32 whatever the numbers are, as TensorFlow does.
    precision = np.float32 if name == "resize_bilinear" else dtype
    assert_within(comp, getattr(naive, name)(*arguments), bound(name, arguments, precision), name)
    for after, before in zip(arguments, copies):
        assert not isinstance(after, np.ndarray) or np.array_equal(after, before), "arguments must not change"


@pytest.mark.parametrize("kernel", [conv, depthwise])
def test_nan_stays_nan_through_the_clip(kernel) -> None:
    x = np.full((1, 3, 3, 1), np.nan, np.float32)
    weight = np.ones((3, 3, 1, 1) if kernel is conv else (3, 3, 1), np.float32)
    assert np.isnan(kernel(x, weight, np.zeros(1, np.float32), Geometry(), RELU6)).all()


def test_blocks_do_not_change_the_result() -> None:
    """Images larger than a cache block give what their parts give."""
    rng = np.random.default_rng(0)
    x, k, b = (rng.normal(size=s).astype(np.float32) for s in [(1, 150, 60, 24), (3, 3, 24), (24,)])
    whole = depthwise(x, k, b, Geometry(1, 1, ((0, 0), (0, 0))))
    for top in (0, 70, 140):
        part = depthwise(x[:, top : top + 10], k, b, Geometry(1, 1, ((0, 0), (0, 0))))
        np.testing.assert_array_equal(whole[:, top : top + 8], part)
    wide = rng.normal(size=(9000, 24)).astype(np.float32)
    matrix = rng.normal(size=(24, 40)).astype(np.float32)
    reference = wide.astype(np.float64) @ matrix
    limit = bound("pointwise", (wide, matrix, np.zeros(40, np.float32), RELU6))
    assert_within(pointwise(wide, matrix, np.zeros(40, np.float32)), reference, limit)


@given(st.integers(1, 70), st.integers(1, 7), st.integers(1, 3), st.integers(1, 4))
def test_same_padding_gives_ceil_of_size_over_stride(size: int, kernel: int, stride: int, dilation: int) -> None:
    before, after = same_padding(size, kernel, stride, dilation)
    assert 0 <= after - before <= 1
    assert output_size(size, kernel, stride, dilation, (before, after)) == -(-size // stride)


@pytest.mark.parametrize(("size", "expected"), [(224, (0, 1)), (7, (1, 1)), (1, (1, 1)), (2, (0, 1))])
def test_same_padding_at_stride_2(size: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, 3, 2) == expected


def test_clip_with_infinite_ends_leaves_values_alone() -> None:
    x = np.array([-1e30, 0, 1e30], np.float32)
    clip_in_place(x, (-np.inf, np.inf))
    np.testing.assert_array_equal(x, np.array([-1e30, 0, 1e30], np.float32))
