"""Means: their error does not grow with the map."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import pytest

from npmnv2.kernels import average_pool, global_average_pool
from npmnv2.lab.numerics import mean_bound

POOLS = {"numpy": (global_average_pool, average_pool)}
if find_spec("numba"):
    from npmnv2.kernels.host import arrays

    POOLS["compiled"] = (arrays.global_average_pool, arrays.average_pool)


@pytest.fixture(params=POOLS)
def pools(request):
    return POOLS[request.param]


@pytest.mark.parametrize("size", [(7, 7), (33, 33), (513, 1025)], ids=str)
def test_the_mean_of_a_constant_map_is_the_constant(pools, size) -> None:
    """The sum of up to 2²⁹ equal float32 numbers is exact in double precision."""
    values = np.array([0.1, 1 / 3, 6.0, -2.7, 1e-30, 1e30], np.float32)
    x = np.broadcast_to(values, (1, *size, len(values)))
    np.testing.assert_array_equal(pools[0](x)[0], values)


@pytest.mark.parametrize("size", [(33, 33), (129, 257)], ids=str)
def test_the_mean_is_rounded_once(pools, size) -> None:
    x = np.random.default_rng(0).normal(1, 3, (2, *size, 5)).astype(np.float32)
    exact = [[math.fsum(image[..., c].ravel().tolist()) / math.prod(size) for c in range(5)] for image in x]
    limit = mean_bound(np.abs(x).mean((1, 2), dtype=np.float64), math.prod(size)) / 2
    assert (np.abs(pools[0](x) - exact) <= limit).all()
    assert limit.max() < 2.0**-23 * np.abs(x).mean((1, 2)).max(), "as if the map were one pixel"


def test_fixed_windows_of_a_constant_map(pools) -> None:
    x = np.full((1, 40, 50, 3), 0.1, np.float32)
    assert (pools[1](x, 33, 2) == np.float32(0.1)).all()


def test_a_large_number_does_not_swallow_small_ones(pools) -> None:
    x = np.full((1, 64, 64, 1), 1.0, np.float32)
    x[0, 0, 0] = 2.0**30
    assert pools[0](x)[0, 0] == np.float32((2**30 + 4095) / 4096)


def test_windows_move_by_one_pixel_unless_told_otherwise(pools) -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(pools[1](x, 2)[0, :, :, 0], [[2.5, 3.5, 4.5], [6.5, 7.5, 8.5], [10.5, 11.5, 12.5]])
