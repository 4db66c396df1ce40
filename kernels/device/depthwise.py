"""Depthwise 3×3 convolution of image rows that already stand between columns of zeros."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ..host.target import Target
from .addressing import Product, View
from .jit import njit
from .simd import INT64, Emitter, Loop, emitted

TAPS = 9


class Rows(NamedTuple):
    """Addresses of the three input rows under an output row, from the column under the first tap."""

    top: int
    middle: int
    bottom: int


class Strides(NamedTuple):
    """Bytes from one input pixel to the next, to the next tap (× dilation) and to the next window (× stride)."""

    pixel: int
    tap: int
    window: int


def pixels_together(target: Target) -> int:
    """Output pixels that are computed together, so that they share the inputs under their overlapping windows.

    The nine weights and the sums stay in registers. 7 divides the widths of the usual image.
    """
    return 7 if target.registers >= 32 else 4


def make_row(target: Target, stride: int) -> Any:
    """Return a function that filters one vector of channels along one image row.

    It is called as ``row(rows: Rows, strides: Strides, product: Product, output: View, count)``; the weights are nine
    vectors, `count` is in output pixels. A `stride` above 0 means that there is no dilation; 0 serves all the others.
    """

    @emitted(target)
    def row(emit, rows, strides, product, output, count):
        builder = emit.builder
        filters = emit.load_all(product.weights, TAPS)
        start, low, high = emit.load(product.bias), emit.splat(product.low), emit.splat(product.high)

        def windows(pixels, x):
            sums = [start] * pixels
            for kh, address in enumerate(rows):
                address = builder.add(address, builder.mul(x, strides.window))
                inputs = _inputs(emit, address, pixels, stride, strides)
                for kw in range(3):
                    weight = filters[kh * 3 + kw]
                    sums = [emit.fma(inputs[i * stride + kw], weight, total) for i, total in enumerate(sums)]
            to = builder.add(output.address, builder.mul(x, output.pixel_stride))
            for i, total in enumerate(sums):
                address = builder.add(to, builder.mul(output.pixel_stride, INT64(i)))
                emit.store_map(emit.clip(total, low, high), address)

        x = INT64(0)
        if stride:
            x = step_through(builder, x, count, pixels_together(target), windows)
        step_through(builder, x, count, 1, windows)

    return row


def _inputs(emit: Emitter, address: Any, pixels: int, stride: int, strides: Strides) -> list[Any]:
    """The inputs of neighboring windows in one image row, each loaded once."""
    builder = emit.builder
    count, step = (3, strides.tap) if pixels == 1 else ((pixels - 1) * stride + 3, strides.pixel)
    return [emit.load_map(builder.add(address, builder.mul(step, INT64(i)))) for i in range(count)]


def step_through(builder: Any, x: Any, count: Any, pixels: int, body: Any) -> Any:
    """Run `body` for `pixels` columns at a time from column `x` while they fit, and return the first column left."""
    before = builder.block
    after = builder.append_basic_block("row_done")
    enter = builder.append_basic_block("row")
    builder.cbranch(builder.icmp_signed("<=", builder.add(x, INT64(pixels)), count), enter, after)
    builder.position_at_end(enter)
    loop = Loop(builder, [x])
    (at,) = loop.values
    body(pixels, at)
    following = builder.add(at, INT64(pixels))
    loop.repeat(builder.icmp_signed("<=", builder.add(following, INT64(pixels)), count), [following])
    last = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    rest = builder.phi(INT64)
    rest.add_incoming(x, before)
    rest.add_incoming(following, last)
    return rest


@functools.cache
def make_filter_row(target: Target) -> Any:
    """Return the function that filters `vectors` vectors of channels along one image row.

    It is called as ``filter_row(geometry, rows: Rows, pixel_stride, product: Product, output: View, count, vectors)``,
    where the geometry has a stride and a dilation, and `count` is in output pixels.
    """
    vector, map_vector = target.vector_bytes, target.map_vector_bytes
    row_any, row_1, row_2 = (make_row(target, stride) for stride in (0, 1, 2))

    @njit(cached=False, variant=target.name)
    def filter_row(geometry, rows, pixel_stride, product, output, count, vectors):
        strides = Strides(pixel_stride, geometry.dilation * pixel_stride, geometry.stride * pixel_stride)
        for i in range(vectors):
            at, offset = i * map_vector, i * vector
            r = Rows(rows.top + at, rows.middle + at, rows.bottom + at)
            p = Product(product.weights + TAPS * offset, product.bias + offset, product.low, product.high)
            to = View(output.address + at, output.pixel_stride, output.row_jump)
            if geometry.dilation == 1 and geometry.stride == 1:
                row_1(r, strides, p, to, count)
            elif geometry.dilation == 1 and geometry.stride == 2:
                row_2(r, strides, p, to, count)
            else:
                row_any(r, strides, p, to, count)

    return filter_row
