"""Average pooling: sums in row-major order, then one division."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .addressing import address, share
from .jit import njit
from .pointwise import LANES, VECTOR
from .simd import INT64, Emitter, Loop


@intrinsic
def _mean(typing, source, step, jump, rows, columns, count, target):
    """Average one vector of channels over a window; `jump` is from the end of a window's row to its next row."""
    signature = types.void(*[types.int64] * 5, types.float32, types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        source, step, jump, rows, columns, count, target = arguments
        emit = Emitter(builder, LANES)
        one = INT64(1)
        outer = Loop(builder, [INT64(0), source, ir.Constant(emit.type, [0.0] * LANES)])
        row, *state = outer.values
        inner = Loop(builder, [INT64(0), *state])
        column, at, total = inner.values
        total = builder.fadd(total, emit.load(at))
        column = builder.add(column, one)
        inner.repeat(builder.icmp_signed("<", column, columns), [column, builder.add(at, step), total])
        _, at, total = inner.values
        row = builder.add(row, one)
        outer.repeat(builder.icmp_signed("<", row, rows), [row, builder.add(at, jump), total])
        emit.store(builder.fdiv(outer.values[2], emit.splat(count)), target)
        return context.get_dummy_value()

    return signature, codegen


@njit(cached=False)
def run_pool(step, bases, worker, workers):
    """Average over windows of kernel_height × kernel_width; workers share the vectors of channels."""
    first, last = share(step.vectors, worker, workers)
    source, target = address(bases, step.source), address(bases, step.target)
    row = step.width * step.source_step
    count = types.float32(step.kernel_height * step.kernel_width)
    for y in range(step.out_height):
        for x in range(step.out_width):
            window = source + y * step.stride * row + x * step.stride * step.source_step
            pixel = target + (y * step.out_width + x) * step.target_step
            for vector in range(first, last):
                at = vector * VECTOR
                _mean(window + at, step.source_step, row - step.kernel_width * step.source_step,
                      step.kernel_height, step.kernel_width, count, pixel + at)  # fmt: skip
