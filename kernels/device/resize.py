"""Bilinear resize. The points to mix, and so the variant, are in tables made from `npmnv2.kernels.linear_weights`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from llvmlite import ir

from ..host.steps import SAMPLE
from ..host.target import Target
from .addressing import address, share
from .jit import njit
from .simd import FLOAT, emitted, load_integer

_SAMPLE_BYTES = SAMPLE.itemsize
UPPER, WEIGHT = 8, 16  # offsets of fields


class Corners(NamedTuple):
    """Addresses of the four pixels that one output pixel is mixed from."""

    top_left: int
    top_right: int
    bottom_left: int
    bottom_right: int


@functools.cache
def make_run_resize(target: Target) -> Any:
    """Return the function that resizes a map; workers share its rows."""
    vector = target.map_vector_bytes

    @emitted(target)
    def mix(emit, corners, offset, column, row, output):
        """Mix one vector of four pixels by the samples at two addresses: along the columns, then along the rows."""
        builder = emit.builder

        def weight(sample):
            pointer = builder.inttoptr(builder.add(sample, ir.IntType(64)(WEIGHT)), ir.DoubleType().as_pointer())
            return emit.splat(builder.fptrunc(builder.load(pointer, align=8), FLOAT))

        def lerp(lower, upper, share):
            return builder.fadd(builder.fmul(builder.fsub(upper, lower), share), lower)

        across, down = weight(column), weight(row)
        values = [emit.load_map(builder.add(corner, offset)) for corner in corners]
        above, below = lerp(values[0], values[1], across), lerp(values[2], values[3], across)
        emit.store_map(lerp(above, below, down), builder.add(output, offset))

    return make_mixed_rows(mix, vector, target.name)


def make_mixed_rows(mix: Any, vector_bytes: int, variant: str) -> Any:
    """Return the function that resizes a map by a way to mix vectors of four pixels; workers share its rows."""

    @njit(cached=False, variant=variant)
    def run_resize(step, bases, worker, workers):
        columns, rows = address(bases, step.tables.columns), address(bases, step.tables.rows)
        source, size = address(bases, step.input.ref), step.product.vectors * vector_bytes
        first, last = share(step.output.height, worker, workers)
        output = address(bases, step.output.ref) + first * step.output.width * step.output.pixel_stride
        for row in range(rows + first * _SAMPLE_BYTES, rows + last * _SAMPLE_BYTES, _SAMPLE_BYTES):
            above, below = source + load_integer(row), source + load_integer(row + UPPER)
            for column in range(columns, columns + step.output.width * _SAMPLE_BYTES, _SAMPLE_BYTES):
                left, right = load_integer(column), load_integer(column + UPPER)
                corners = Corners(above + left, above + right, below + left, below + right)
                for offset in range(0, size, vector_bytes):
                    mix(corners, offset, column, row, output)
                output += step.output.pixel_stride

    return run_resize
