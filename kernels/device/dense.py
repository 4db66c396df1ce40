"""The classifier for a single image: one row times a large matrix, limited by how fast the weights arrive."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..host.target import FLOAT_BYTES
from .addressing import ONE64, ZERO64, address, share
from .jit import njit
from .pointwise import LANES, VECTOR, multiply, panels, run_pointwise, tile_kind
from .simd import INT64, Emitter, Loop

# Panels of weights that are read side by side: enough sums in flight to hide the latency of an FMA. The processor sees
# the straight lines by itself: asking for lines ahead of time made it slower (measured from memory: 92 against 107 µs).
STREAMS = 4


@intrinsic
def _row(typing, source, length, weights, panel_bytes, bias, target, low, high):
    """Compute `STREAMS` panels of two vectors for one pixel of `length` floats."""
    signature = types.void(*[types.int64] * 6, types.float32, types.float32)

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        source, length, weights, panel_bytes, bias, target, low, high = arguments
        emit = Emitter(builder, LANES)
        stop = builder.add(source, builder.mul(length, INT64(FLOAT_BYTES)))
        streams = [builder.add(weights, builder.mul(panel_bytes, INT64(i))) for i in range(STREAMS)]
        loop = Loop(builder, [source, INT64(0), *emit.load_all(bias, 2 * STREAMS)])
        at, offset, *sums = loop.values
        value = emit.broadcast(at)
        following = []
        for i, stream in enumerate(streams):
            place = builder.add(stream, offset)
            row = emit.load_all(place, 2)
            following += [emit.fma(value, row[j], sums[2 * i + j]) for j in range(2)]
        at = builder.add(at, INT64(FLOAT_BYTES))
        offset = builder.add(offset, INT64(2 * VECTOR))
        loop.repeat(builder.icmp_signed("<", at, stop), [at, offset, *following])
        low, high = emit.splat(low), emit.splat(high)
        for i, total in enumerate(loop.values[2:]):
            emit.store(emit.clip(total, low, high), target, i)
        return context.get_dummy_value()

    return signature, codegen


@njit(cached=False)
def run_dense(step, bases, worker, workers):
    """Multiply every image's features; several images share the weights, a single one streams them."""
    if step.height > 1:
        run_pointwise(step, bases, worker, workers)
        return
    count = panels(step.vectors)
    # The last panel may be of another kind.
    groups = (count - 1) // STREAMS
    source, target = address(bases, step.source), address(bases, step.target)
    weights, bias = address(bases, step.weights), address(bases, step.bias)
    panel_bytes = 2 * VECTOR * step.channels
    first, last = share(groups, worker, workers)
    for group in range(first, last):
        panel = group * STREAMS
        at = panel * 2 * VECTOR
        start = weights + panel * panel_bytes
        _row(source, step.channels, start, panel_bytes, bias + at, target + at, step.low, step.high)
    if worker == 0:
        for panel in range(groups * STREAMS, count):
            at = panel * 2 * VECTOR
            kind = tile_kind(panel, step.vectors, step.half)
            multiply(
                source, ZERO64, ZERO64, ONE64, ZERO64, step.channels, weights + panel * panel_bytes, bias + at, ZERO64,
                target + at, ZERO64, ZERO64, ONE64, ONE64, kind, step.low, step.high,
            )  # fmt: skip
