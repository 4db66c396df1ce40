"""Depthwise 3×3 convolution of rows of bytes: what `device.depthwise` is for floats.

A lane holds two 16-bit inputs of one channel, from the upper two of the three rows, or one from the third. So a column
of a window is two instructions with two products each, and weights less their zero point, which need nine bits, fit.
"""

from __future__ import annotations

import functools
from typing import Any

from ...host.target import Target
from ..depthwise import Rows, Strides, pixels_together, step_through
from ..jit import njit
from ..simd import INT64
from .simd import IntegerEmitter, integers_emitted

COLUMNS, PAIRS = 3, 2


def make_row(target: Target, stride: int) -> Any:
    """Return a function that filters one vector of channels along one row.

    It is called as ``row(rows: Rows, strides: Strides, product: ByteProduct, scaling: Scaling, output: View, count)``.
    A `stride` above 0 means that there is no dilation; 0 serves all the others.
    """

    @integers_emitted(target)
    def row(emit, rows, strides, product, scaling, output, count):
        builder = emit.builder
        weights = [emit.load_integers(product.weights, index) for index in range(COLUMNS * PAIRS)]
        bias, scale = emit.load_integers(product.bias), emit.load(scaling.scales)
        low, high = emit.splat(scaling.low), emit.splat(scaling.high)
        zero = emit.splat_integer(builder.trunc(scaling.zero, emit.integers.element))

        def windows(pixels, x):
            columns = _columns(emit, rows, builder.mul(x, strides.window), pixels, stride, strides)
            for pixel in range(pixels):
                total = bias
                for kw in range(COLUMNS):
                    for pair, inputs in enumerate(columns[pixel * stride + kw]):
                        total = emit.dot_pairs(total, inputs, weights[kw * PAIRS + pair])
                at = builder.mul(output.pixel_stride, builder.add(x, INT64(pixel)))
                emit.store_bytes(emit.rescale(total, scale, low, high, zero), builder.add(output.address, at))

        x = INT64(0)
        if stride:
            x = step_through(builder, x, count, pixels_together(target), windows)
        step_through(builder, x, count, 1, windows)

    return row


def _columns(
    emit: IntegerEmitter, rows: Rows, offset: Any, pixels: int, stride: int, strides: Strides
) -> list[tuple[Any, Any]]:
    """The columns under neighboring windows, each loaded once: inputs of the upper two rows, and of the third."""
    builder, sixteen = emit.builder, emit.constant(16)
    count, step = (COLUMNS, strides.tap) if pixels == 1 else ((pixels - 1) * stride + COLUMNS, strides.pixel)
    found = []
    for index in range(count):
        at = builder.add(offset, builder.mul(step, INT64(index)))
        top, middle, bottom = (emit.load_bytes(builder.add(address, at)) for address in rows)
        found.append((builder.or_(top, builder.shl(middle, sixteen)), bottom))
    return found


@functools.cache
def make_filter_bytes(target: Target) -> Any:
    """Return the function that filters one vector of channels along one row.

    It is called as ``filter_bytes(geometry: (stride, dilation), rows: Rows, pixel_stride, product: ByteProduct,
    scaling: Scaling, output: View, count)``, where `count` is in output pixels.
    """
    row_any, row_1, row_2 = (make_row(target, stride) for stride in (0, 1, 2))

    @njit(cached=False, variant=target.name)
    def filter_bytes(geometry, rows, pixel_stride, product, scaling, output, count):
        stride, dilation = geometry
        strides = Strides(pixel_stride, dilation * pixel_stride, stride * pixel_stride)
        if dilation == 1 and stride == 1:
            row_1(rows, strides, product, scaling, output, count)
        elif dilation == 1 and stride == 2:
            row_2(rows, strides, product, scaling, output, count)
        else:
            row_any(rows, strides, product, scaling, output, count)

    return filter_bytes
