"""Sums of two maps, and copies of channels: what joins maps together."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..host.target import FLOAT_BYTES
from .addressing import address, share
from .jit import njit
from .pointwise import LANES, VECTOR
from .simd import Emitter, copy_bytes


@intrinsic
def _add(typing, a, b, target):
    """Add two vectors."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        emit = Emitter(builder, LANES)
        a, b, target = arguments
        emit.store(builder.fadd(emit.load(a), emit.load(b)), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@njit(cached=False)
def run_add(step, bases, worker, workers):
    """Add two maps of one layout."""
    first, last = share(step.height * step.width * step.vectors, worker, workers)
    source, other, target = address(bases, step.source), address(bases, step.residual), address(bases, step.target)
    for at in range(first * VECTOR, last * VECTOR, VECTOR):
        _add(source + at, other + at, target + at)


@njit(cached=False)
def run_copy(step, bases, worker, workers):
    """Copy channels from pixels of one step to pixels of another: concatenation, and results for the caller."""
    first, last = share(step.height * step.width, worker, workers)
    source, target = address(bases, step.source), address(bases, step.target)
    for pixel in range(first, last):
        copy_bytes(target + pixel * step.target_step, source + pixel * step.source_step, step.channels * FLOAT_BYTES)
