"""Convolutions of integers: the float definitions on ``q − zero_point``, whose sums are exact, then `rescale`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..blocks import row_blocks
from ..conv import conv as float_conv
from ..depthwise import depthwise as float_depthwise
from ..padding import Geometry
from ..pointwise import pointwise as float_pointwise
from .rescale import rescale
from .tensor import Arithmetic, Integers, TensorQuantization

# Whole numbers up to here are exact in float32.
_EXACT = 1 << 24


def conv(
    x: Integers,
    kernel: Integers,
    bias: Integers,
    geometry: Geometry,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    arithmetic: Arithmetic,
) -> Integers:
    """Convolve a map with a bank of filters; a 1×1 kernel may be a matrix, and a map a row of vectors.

    ``sum = bias + Σ (x − zero_x) · (kernel − zero_kernel)``, ``y = clip(round(sum · scale_x · scale_kernel / scale_y) +
    zero_y)``. The image is surrounded by ``zero_x``, the integer of 0.

    Parameters
    ----------
    x : integers [shape=(N, H, W, Cin)]
    kernel : integers [shape=(kh, kw, Cin, Cout) or (Cin, Cout)]
        With a matrix, `x` may also be (…, Cin), and `geometry` is not used.
    bias : int32 [shape=(Cout,)]
        In units of ``scale_x · scale_kernel``.
    geometry : Geometry
    quantization : (input, kernel, output)
    arithmetic : {"xnnpack", "reference"}

    Returns
    -------
    integers [shape=(N, H', W', Cout)]
    """
    source, filters, _ = quantization
    exact = _exact_type(kernel, source, filters)
    weights, nothing = filters.centered(kernel, exact), np.zeros(kernel.shape[-1], exact)
    pixels = source.centered(x, exact)
    products = (
        float_pointwise(pixels, weights, nothing)
        if kernel.ndim == 2
        else float_conv(pixels, weights, nothing, geometry)
    )
    return _rescaled(products, bias, quantization, arithmetic)


def depthwise(
    x: Integers,
    kernel: Integers,
    bias: Integers,
    geometry: Geometry,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    arithmetic: Arithmetic,
) -> Integers:
    """Filter every channel on its own, (kh, kw, C); see `conv`."""
    source, filters, _ = quantization
    exact = _exact_type(kernel, source, filters)
    nothing = np.zeros(kernel.shape[-1], exact)
    products = float_depthwise(source.centered(x, exact), filters.centered(kernel, exact), nothing, geometry)
    return _rescaled(products, bias, quantization, arithmetic)


def largest_sum(kernel: Integers, source: TensorQuantization, filters: TensorQuantization) -> int:
    """The largest |Σ (x − zero_x) · (kernel − zero_kernel)| over all inputs, per the worst output channel."""
    low, high = source.limits
    reach = max(source.zero_point - low, high - source.zero_point)
    weights = np.abs(filters.centered(kernel, np.int64))
    return reach * int(weights.reshape(-1, kernel.shape[-1]).sum(axis=0).max())


def _exact_type(kernel: Integers, source: TensorQuantization, filters: TensorQuantization) -> DTypeLike:
    """The float type in which NumPy's fast matrix product is exact for these weights."""
    return np.float32 if largest_sum(kernel, source, filters) < _EXACT else np.float64


def _rescaled(
    products: NDArray[Any],
    bias: Integers,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    arithmetic: Arithmetic,
) -> Integers:
    """Add the bias to exact sums, and `rescale` them, in pieces that stay in the cache."""
    flat = products.reshape(-1, products.shape[-1])
    out = np.empty(flat.shape, quantization[2].dtype)
    for rows in row_blocks(len(flat), flat.shape[1] * 8):
        out[rows] = rescale(flat[rows].astype(np.int64) + bias, *quantization, arithmetic)
    return out.reshape(products.shape)
