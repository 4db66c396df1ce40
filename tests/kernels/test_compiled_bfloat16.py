"""The kernels for bfloat16, bit for bit against NumPy's definition."""

from __future__ import annotations

import numpy as np
import pytest
from engines import require_bfloat16_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from npmnv2.kernels.host import arrays as compiled
from strategies import arrays, conv_arguments, depthwise_arguments, pointwise_arguments, seeds

from npmnv2.kernels import add, bfloat16, resize_bilinear

ENGINE = require_bfloat16_engine()
short = bfloat16.round_to_bfloat16


def same_bits(found, expected) -> None:
    assert found.dtype == np.float32
    numbers = ~(np.isnan(found) & np.isnan(expected))
    np.testing.assert_array_equal(found.view(np.uint32)[numbers], expected.view(np.uint32)[numbers])


@given(seeds)
@settings(max_examples=20)
def test_the_processor_adds_pairs_as_defined_whatever_the_bits(seed: int) -> None:
    """All bit patterns: denormals, infinities, and what overflows or cancels. The classifier's sums are not rounded."""
    rng = np.random.default_rng(seed)
    x = (rng.integers(0, 2**16, (1, 2), np.uint32) << 16).view(np.float32)
    kernel = (rng.integers(0, 2**16, (2, 512), np.uint32) << 16).view(np.float32)
    bias = rng.integers(0, 2**32, 512, np.uint32).view(np.float32)
    same_bits(compiled.dense(x, kernel, bias, engine=ENGINE), bfloat16.pointwise(short(x), kernel, bias))


@pytest.mark.parametrize("n_threads", [1, 3])
@settings(max_examples=25)
@given(pointwise_arguments())
def test_pointwise(n_threads: int, arguments) -> None:
    x, kernel, bias, clip = arguments
    x, kernel = (np.concatenate([each, each], axis) for each, axis in ((x, -1), (kernel, 0)))  # an even number
    found = compiled.pointwise(x, kernel, bias, clip, n_threads, ENGINE)
    same_bits(found, short(bfloat16.pointwise(short(x), kernel, bias, clip)))


@settings(max_examples=25)
@given(conv_arguments())
def test_conv(arguments) -> None:
    x, kernel, bias, geometry, clip = arguments
    geometry = geometry._replace(dilation=1)
    x, kernel = (np.concatenate([each, each], axis) for each, axis in ((x, -1), (kernel, 2)))
    if min(x.shape[1 + i] + sum(geometry.padding[i]) for i in range(2)) >= len(kernel):
        found = compiled.conv(x, kernel, bias, geometry, clip, 2, ENGINE)
        same_bits(found, short(bfloat16.conv(short(x), kernel, bias, geometry, clip)))


@settings(max_examples=25)
@given(depthwise_arguments())
def test_depthwise(arguments) -> None:
    x, kernel, bias, geometry, clip = arguments
    if len(kernel) == 3:
        found = compiled.depthwise(x, kernel, bias, geometry, clip, 2, ENGINE)
        same_bits(found, short(bfloat16.depthwise(short(x), kernel, bias, geometry, clip)))


@given(seeds, st.sampled_from([1, 15, 16, 17, 40]))
@settings(max_examples=15)
def test_sums_pools_and_resizes(seed: int, channels: int) -> None:
    x, y = (short(each) for each in arrays(seed, (2, 5, 4, channels), (2, 5, 4, channels)))
    same_bits(compiled.add(x, y, 2, ENGINE), short(add(x, y)))
    same_bits(compiled.average_pool(x, 2, 2, 2, ENGINE), short(bfloat16.average_pool(x, (2, 2), 2)))
    same_bits(compiled.global_average_pool(x, 2, ENGINE), bfloat16.average_pool(x, (5, 4))[:, 0, 0])
    resized = compiled.resize_bilinear(x, (7, 3), "half_pixel", 2, ENGINE)
    same_bits(resized, short(resize_bilinear(x, (7, 3), "half_pixel")))
