"""Depthwise 3×3 convolution of image rows that already stand between columns of zeros."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import njit
from .pointwise import LANES, VECTOR
from .probe import host_target
from .simd import INT64, Emitter, Loop

# Output pixels computed together, so that they share the inputs under their overlapping windows. The nine weights and
# the sums stay in registers. 7 divides the widths of the usual image.
PIXELS = 7 if host_target().registers == 32 else 4
TAPS = 9


def make_row(stride: int) -> Any:
    """Return an intrinsic that filters one vector of channels along one image row, without dilation if `stride` is set.

    Its arguments, in bytes where they are distances:

    row0, row1, row2
        The three input rows under the output row, from the column under the first tap.
    step, tap, pixel
        From one input pixel to the next, to the next tap (dilation × step) and to the next window (stride × step).
    weights, bias
        Nine vectors, and one.
    c, c_step, count
        Output, the way to its next pixel, and its pixels.
    low, high
        Clip range.
    """

    @intrinsic
    def row(typing, row0, row1, row2, step, tap, pixel, weights, bias, c, c_step, count, low, high):
        signature = types.void(*[types.int64] * 11, types.float32, types.float32)

        def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
            row0, row1, row2, step, tap, pixel, weights, bias, c, c_step, count, low, high = arguments
            emit = Emitter(builder, LANES)
            filters = emit.load_all(weights, TAPS)
            start, low, high = emit.load(bias), emit.splat(low), emit.splat(high)
            rows = (row0, row1, row2)

            def windows(pixels: int, x: ir.Value) -> None:
                sums = [start] * pixels
                for kh, address in enumerate(rows):
                    address = builder.add(address, builder.mul(x, pixel))
                    inputs = _inputs(emit, address, pixels, stride, step, tap)
                    for kw in range(3):
                        weight = filters[kh * 3 + kw]
                        sums = [emit.fma(inputs[i * stride + kw], weight, total) for i, total in enumerate(sums)]
                output = builder.add(c, builder.mul(x, c_step))
                for i, total in enumerate(sums):
                    address = builder.add(output, builder.mul(c_step, INT64(i)))
                    emit.store(emit.clip(total, low, high), address)

            x = INT64(0)
            if stride:
                x = _step_through(builder, x, count, PIXELS, windows)
            _step_through(builder, x, count, 1, windows)
            return context.get_dummy_value()

        return signature, codegen

    return row


def _inputs(emit: Emitter, address: Any, pixels: int, stride: int, step: Any, tap: Any) -> list[Any]:
    """The inputs of neighboring windows in one image row, each loaded once."""
    builder = emit.builder
    count, step = (3, tap) if pixels == 1 else ((pixels - 1) * stride + 3, step)
    return [emit.load(builder.add(address, builder.mul(step, INT64(i)))) for i in range(count)]


def _step_through(builder: ir.IRBuilder, x: Any, count: Any, pixels: int, body: Any) -> Any:
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


_row_any, _row_1, _row_2 = (make_row(stride) for stride in (0, 1, 2))


@njit(cached=False)
def filter_row(row0, row1, row2, step, stride, dilation, weights, bias, c, c_step, pixels, count, low, high):
    """Filter `count` vectors of channels along one image row."""
    tap, pixel = dilation * step, stride * step
    for vector in range(count):
        at = vector * VECTOR
        a, b, d = row0 + at, row1 + at, row2 + at
        filters, start, target = weights + TAPS * at, bias + at, c + at
        if dilation == 1 and stride == 1:
            _row_1(a, b, d, step, tap, pixel, filters, start, target, c_step, pixels, low, high)
        elif dilation == 1 and stride == 2:
            _row_2(a, b, d, step, tap, pixel, filters, start, target, c_step, pixels, low, high)
        else:
            _row_any(a, b, d, step, tap, pixel, filters, start, target, c_step, pixels, low, high)
