"""Bilinear resize. Which points are looked at, and so the variant, is in a table made of
`npmnv2.kernels.linear_weights`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..host.steps import SAMPLE
from .addressing import address, share
from .jit import njit
from .pointwise import LANES, VECTOR
from .simd import FLOAT, INT64, Emitter

ENTRY = SAMPLE.itemsize


@intrinsic
def _integer(typing, at):
    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        return builder.load(builder.inttoptr(arguments[0], INT64.as_pointer()), align=8)

    return types.int64(types.int64), codegen


@intrinsic
def _between(typing, corners, column, row, target):
    """Mix four vectors by the weights behind two addresses: first along the columns, then along the rows."""
    signature = types.void(types.UniTuple(types.int64, 4), types.int64, types.int64, types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        corners, column, row, target = arguments
        emit = Emitter(builder, LANES)

        def weight(at: Any) -> Any:
            wide = builder.load(builder.inttoptr(at, ir.DoubleType().as_pointer()), align=8)
            return emit.splat(builder.fptrunc(wide, FLOAT))

        def mix(lower: Any, upper: Any, share: Any) -> Any:
            return builder.fadd(builder.fmul(builder.fsub(upper, lower), share), lower)

        columns, rows = weight(column), weight(row)
        values = [emit.load(builder.extract_value(corners, i)) for i in range(4)]
        above, below = mix(values[0], values[1], columns), mix(values[2], values[3], columns)
        emit.store(mix(above, below, rows), target)
        return context.get_dummy_value()

    return signature, codegen


@njit(cached=False)
def run_resize(step, bases, worker, workers):
    """Resize a map; `weights` is the table of columns and `bias` that of rows."""
    columns, rows = address(bases, step.weights), address(bases, step.bias)
    source = address(bases, step.source)
    first, last = share(step.out_height, worker, workers)
    for y in range(first, last):
        row = rows + y * ENTRY
        above, below = source + _integer(row), source + _integer(row + 8)
        target = address(bases, step.target) + y * step.out_width * step.target_step
        for x in range(step.out_width):
            column = columns + x * ENTRY
            left, right = _integer(column), _integer(column + 8)
            for at in range(0, step.vectors * VECTOR, VECTOR):
                corners = (above + left + at, above + right + at, below + left + at, below + right + at)
                _between(corners, column + 16, row + 16, target + at)
            target += step.target_step
