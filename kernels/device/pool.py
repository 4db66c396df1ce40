"""Average pooling: sums in double precision and row-major order, then one division and one rounding."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types

from ..host.target import Target
from .addressing import View, address, share
from .jit import njit
from .simd import INT64, Form, Loop, emitted


@functools.cache
def make_run_pool(target: Target, form: Form) -> Any:
    """Return the function that averages over windows of pool.height × pool.width; workers share the channels."""
    vector, output_vector = target.lanes * form.source, target.lanes * form.output
    doubles = ir.VectorType(ir.DoubleType(), target.lanes)

    @emitted(target, form)
    def mean(emit, window, rows, columns, count, output):
        """Average one vector of channels over a window."""
        builder, one = emit.builder, INT64(1)
        outer = Loop(builder, [INT64(0), window.address, ir.Constant(doubles, [0.0] * target.lanes)])
        row, *state = outer.values
        inner = Loop(builder, [INT64(0), *state])
        column, source, total = inner.values
        total = builder.fadd(total, builder.fpext(emit.load_map(source), doubles))
        column, source = builder.add(column, one), builder.add(source, window.pixel_stride)
        inner.repeat(builder.icmp_signed("<", column, columns), [column, source, total])
        _, source, total = inner.values
        row, source = builder.add(row, one), builder.add(source, window.row_jump)
        outer.repeat(builder.icmp_signed("<", row, rows), [row, source, total])
        average = builder.fdiv(outer.values[2], emit.splat(count))
        emit.store_map(builder.fptrunc(average, emit.type), output)

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}")
    def run_pool(step, bases, worker, workers):
        pool, pixel, row = step.pool, step.input.pixel_stride, step.input.width * step.input.pixel_stride
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        jump, count = row - pool.width * pixel, types.float64(pool.height * pool.width)
        first, last = share(step.product.vectors, worker, workers)
        for y in range(step.output.height):
            for x in range(step.output.width):
                corner = source + y * pool.stride * row + x * pool.stride * pixel
                to = output + (y * step.output.width + x) * step.output.pixel_stride
                for i in range(first, last):
                    window = View(corner + i * vector, pixel, jump)
                    mean(window, pool.height, pool.width, count, to + i * output_vector)

    return run_pool
