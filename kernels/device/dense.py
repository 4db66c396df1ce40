"""The classifier for a single image: one row times a large matrix, limited by how fast the weights arrive."""

from __future__ import annotations

import functools
from typing import Any

from ..host.target import FLOAT_BYTES, Target
from .addressing import ONE64, ZERO64, Area, Segments, View, address, product_at, share
from .jit import njit
from .pointwise import make_multiply, make_run_pointwise, panels, tile_kind
from .simd import INT64, Loop, emitted

# Panels of weights that are read side by side: enough sums in flight to hide the latency of an FMA. The processor sees
# the straight lines by itself: asking for lines ahead of time made it slower (measured from memory: 92 against 107 µs).
STREAMS = 4


def make_row(target: Target) -> Any:
    """Return a function that computes `STREAMS` panels of two vectors for one pixel of `length` floats.

    It is called as ``row(source, length, panel_bytes, product: Product, output)``, where `panel_bytes` is the size of
    one panel's weights.
    """

    @emitted(target)
    def row(emit, source, length, panel_bytes, product, output):
        builder = emit.builder
        stop = builder.add(source, builder.mul(length, INT64(FLOAT_BYTES)))
        streams = [builder.add(product.weights, builder.mul(panel_bytes, INT64(i))) for i in range(STREAMS)]
        loop = Loop(builder, [source, INT64(0), *emit.load_all(product.bias, 2 * STREAMS)])
        at, offset, *sums = loop.values
        value = emit.broadcast(at)
        following = []
        for i, stream in enumerate(streams):
            weights = emit.load_all(builder.add(stream, offset), 2)
            following += [emit.fma(value, weights[j], sums[2 * i + j]) for j in range(2)]
        at = builder.add(at, INT64(FLOAT_BYTES))
        offset = builder.add(offset, INT64(2 * target.vector_bytes))
        loop.repeat(builder.icmp_signed("<", at, stop), [at, offset, *following])
        low, high = emit.splat(product.low), emit.splat(product.high)
        for i, total in enumerate(loop.values[2:]):
            emit.store(emit.clip(total, low, high), output, i)

    return row


@functools.cache
def make_run_dense(target: Target) -> Any:
    """Return the function that multiplies every image's features.

    Several images share the weights, a single one streams them.
    """
    row, multiply, run_pointwise = make_row(target), make_multiply(target), make_run_pointwise(target)
    panel_bytes = 2 * target.vector_bytes

    @njit(cached=False, variant=target.name)
    def run_dense(step, bases, worker, workers):
        if step.input.height > 1:
            run_pointwise(step, bases, worker, workers)
            return
        product, length = step.product, step.input.channels
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        count = panels(product.vectors)
        # The last panel may be of another kind.
        groups = (count - 1) // STREAMS
        first, last = share(groups, worker, workers)
        for group in range(first, last):
            offset = group * STREAMS * panel_bytes
            row(source, length, panel_bytes * length, product_at(product, bases, offset, length), output + offset)
        if worker == 0:
            for panel in range(groups * STREAMS, count):
                offset = panel * panel_bytes
                multiply(
                    View(source, ZERO64, ZERO64), Segments(ONE64, ZERO64, length),
                    product_at(product, bases, offset, length), ZERO64, View(output + offset, ZERO64, ZERO64),
                    Area(ONE64, ONE64), tile_kind(panel, product.vectors, product.half),
                )  # fmt: skip

    return run_dense
